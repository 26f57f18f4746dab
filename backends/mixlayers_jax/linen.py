"""Flax Linen: the plan is a variable of the layer that it is for, in a collection of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixlayers import Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.model.mixer import check_signature
from mixlayers_jax._audit import Marks
from mixlayers_jax._iebn.linen import IEBN, RBN
from mixlayers_jax._iebn.plain import iebn_decay_mask
from mixlayers_jax._mixer import BaseMixer, Library
from mixlayers_jax._plan import Placed, Plan
from mixlayers_jax._runs import Runs

__all__ = ["IEBN", "RBN", "Mixer", "audit", "iebn_decay_mask"]

_COLLECTION: Final = "mixlayers"
_VARIABLE: Final = "placed"


class Linen(Library):
    """Modules of `flax.linen`: which layers a model has is known when it has been traced."""

    def __init__(self) -> None:
        self._seen: dict[str, nn.Module] = {}
        self._weighted: set[str] = set()

    def modules(self, model: nn.Module) -> Mapping[str, Any]:
        return self._seen

    def described(self, model: nn.Module, names: Collection[str]) -> Mapping[str, Layer]:
        return {
            name: Layer(
                type(module).__name__,
                weighted=name in self._weighted,
                leaf=not any(other.startswith(f"{name}.") for other in self._seen),
            )
            for name, module in self._seen.items()
        }

    def marked(self, model: Any, marks: Marks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rngs = {"params": jax.random.key(0)}
        with nn.intercept_methods(self._see):
            shapes = jax.eval_shape(lambda: model.init(rngs, *args, **kwargs))
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.get("params", {})):
            parents = [part.key for part in path[:-1]]
            for depth in range(1, len(parents) + 1):
                name = ".".join(parents[:depth])
                self._seen.setdefault(name, nn.Module())  # of a class whose trace is shared
                if leaf.ndim > 1:
                    self._weighted.add(name)
        variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        mutable = [collection for collection in variables if collection != "params"]
        actions = dict.fromkeys(self._seen, marks)
        return acting(model, variables, actions, args, kwargs, rngs=rngs, mutable=mutable)[0]

    def _see(self, next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and context.module.path:
            self._seen.setdefault(".".join(context.module.path), context.module.clone(parent=None))
        return next_function(*args, **kwargs)


def acting(
    model: nn.Module,
    variables: Any,
    actions: Mapping[str, Any],
    args: Any,
    kwargs: Any,
    runs: Runs | None = None,
    **options: Any,
) -> Any:
    """`model.apply`, with `action.mixed(name, output)` in the place of each named layer's output."""
    placed: dict[str, Any] = {}
    for name, action in actions.items():
        at = placed
        for part in name.split("."):
            at = at.setdefault(part, {})
        at[_VARIABLE] = Placed(action, name, runs)
    with nn.intercept_methods(_act):
        result = model.apply({**variables, _COLLECTION: placed}, *args, **options, **kwargs)
    if options.get("mutable", False) is not False:
        output, updates = result
        return output, {name: value for name, value in updates.items() if name != _COLLECTION}
    return result


def _act(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
    output = next_function(*args, **kwargs)
    if context.method_name != "__call__" or not context.module.has_variable(_COLLECTION, _VARIABLE):
        return output
    return context.module.get_variable(_COLLECTION, _VARIABLE).mixed(output)


class Mixer(BaseMixer):
    """Mixes a `flax.linen.Module`, in the place of its `apply`:

        logits, target = mixer.apply(variables, images, target=labels, plan=plan)

    The model is left as it is; without a plan `mixer.apply` is `model.apply`.

    Args:
        model: The module.
        example: What the module is called with beside the variables, such as `{"x": images, "train": True}`: arrays, or
            their jax.ShapeDtypeStruct. The module is traced with it, and not run.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any,
        **options: Any,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"a model is a flax.linen.Module, got {type(model).__name__}.")
        check_signature(model, model.__call__)
        self.model = model
        super().__init__(Linen(), model, method, layers, example=example, **options)

    def apply(
        self,
        variables: Any,
        *args: Any,
        target: Any = None,
        plan: Plan | None = None,
        rngs: Any = None,
        mutable: Any = False,
        **kwargs: Any,
    ) -> Any:
        """Call the model, inside jit or outside.

        Args:
            variables, args, kwargs, rngs, mutable: As of `model.apply`.
            target: The step's labels.
            plan: The step's plan; None mixes nothing.

        Returns:
            What `model.apply` returns; if a target was given, that and the mixed target.

        Raises:
            ValueError: If there is a plan that mixes, and no target.
        """
        actions, args, kwargs = self._planned(self.model, plan, args, kwargs, target)
        options = {"rngs": rngs, "mutable": mutable}
        with self._running(actions, plan):
            output = acting(self.model, variables, actions, args, kwargs, self._runs, **options)
        return output if target is None else (output, self.target(target, plan))


def audit(model: nn.Module, example: Any) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    The model is traced, and not run; its jaxpr tells whether anything goes round a layer.

    Args:
        model: Any module.
        example: What it takes beside its variables: an array, a tuple of positional or a dict of keyword arguments,
            such as `{"x": images, "train": True}`; or jax.ShapeDtypeStruct for arrays.
    """
    return Linen().audit(model, example).report
