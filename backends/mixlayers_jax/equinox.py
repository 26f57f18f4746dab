"""Equinox: the plan is part of the model's tree. Models are written for one sample; vmap's batch is mixed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import equinox as eqx
import jax
from jax.custom_batching import custom_vmap

from mixlayers import Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.batch.arguments import as_call, by_name, positional
from mixlayers._core.errors import refuse
from mixlayers._core.framework.tree import tree_map
from mixlayers._core.plan.plan import INPUT
from mixlayers_jax._audit import Marks
from mixlayers_jax._equinox_tree import layer_at, named_modules
from mixlayers_jax._framework import JAX
from mixlayers_jax._iebn.equinox import IEBN, RBN, convert_iebn, convert_rbn, revert_iebn, revert_rbn
from mixlayers_jax._iebn.plain import iebn_decay_mask
from mixlayers_jax._mixer import BaseMixer, Library
from mixlayers_jax._plan import STATIC, Placed, Plan
from mixlayers_jax._runs import Runs

__all__ = [
    "IEBN",
    "RBN",
    "Mixer",
    "audit",
    "convert_iebn",
    "convert_rbn",
    "iebn_decay_mask",
    "revert_iebn",
    "revert_rbn",
]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Mapped:
    """What is done to a feature, and over how many axes a model of one sample is mapped for it.

    Attributes:
        placed: Done to the whole feature.
        under: How many there are so far, from within. Static.
        of: How many there are: tokens', say, and then the samples', outside of them. Static.
        part: Which of the tensors of its layer's output it is. Static.
    """

    placed: Placed
    of: int = field(metadata=STATIC)
    under: int = field(default=0, metadata=STATIC)
    part: int = field(default=0, metadata=STATIC)


@custom_vmap
def _across(x: Any, mapped: _Mapped) -> Any:
    """A sample's feature; under vmap all of them, mixed. Alone there is nothing to mix with."""
    placed = mapped.placed
    if isinstance(placed.action, Marks):
        return placed.action.mixed(placed.name, x, mapped.under, mapped.part)
    alone = (placed.action.perm >= 0).any()  # always, but only to be known when it runs
    return eqx.error_if(
        x,
        alone,
        "a mixed model takes a batch under jax.vmap, and was called with one sample: jax.vmap(model)(x).",
    )


@_across.def_vmap
def _batched(size: int, batched: Any, x: Any, mapped: _Mapped) -> tuple[Any, bool]:
    if any(jax.tree.leaves(batched[1])):
        refuse(
            "the plan was mapped over by vmap",
            "let the loss close over the plan, and map over the samples alone",
        )
    mapped = replace(mapped, under=mapped.under + 1)
    audited = isinstance(mapped.placed.action, Marks)  # how many there are is to be told
    return (_across(x, mapped) if audited or mapped.under < mapped.of else mapped.placed.mixed(x)), True


def _mix(mapped: _Mapped, tree: Any, keep: Collection[str] = ()) -> Any:
    parts = count()

    def each(leaf: Any) -> Any:
        known = JAX.is_tensor(leaf) and JAX.is_float(leaf)
        return _across(leaf, replace(mapped, part=next(parts))) if known else leaf

    return tree_map(each, tree, keep=keep)


class Mixed(eqx.nn.StatefulLayer):
    """A layer whose output is mixed."""

    layer: Any
    placed: _Mapped

    def is_stateful(self) -> bool:
        """Whether `eqx.nn.Sequential` hands it a state: if it does the layer."""
        return isinstance(self.layer, eqx.nn.StatefulLayer) and self.layer.is_stateful()

    def __getattr__(self, name: str) -> Any:
        if name == "layer":  # not made yet
            raise AttributeError(name)
        return getattr(self.layer, name)  # such as a weight that another layer shares

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _mix(self.placed, self.layer(*args, **kwargs))


class MixedInput(eqx.Module):
    """A model whose input is mixed."""

    model: Any
    placed: _Mapped
    keep: frozenset[str] = eqx.field(static=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = by_name(positional(self.model.__call__), args, kwargs)
        args, kwargs = as_call(_mix(self.placed, arguments, self.keep), len(args))
        return self.model(*args, **kwargs)


class Equinox(Library):
    """Modules of Equinox.

    Args:
        call: Calls a model with a batch.
    """

    def __init__(self, call: Callable[..., Any] | None = None) -> None:
        self.call = call or _vmapped

    def modules(self, model: Any) -> dict[str, Any]:
        return named_modules(model)

    def described(self, model: Any, names: Collection[str]) -> dict[str, Layer]:
        modules = self.modules(model)
        return {
            name: Layer(
                type(module).__name__,
                weighted=any(eqx.is_inexact_array(x) and x.ndim > 1 for x in jax.tree.leaves(module)),
                leaf=not any(other.startswith(f"{name}.") for other in modules),
            )
            for name, module in modules.items()
        }

    def marked(self, model: Any, marks: Marks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        marked = acting(model, {**dict.fromkeys(self.modules(model), marks), INPUT: marks})
        return self.call(marked, *args, **kwargs)


def acting(
    model: Any,
    actions: Mapping[str, Any],
    vmaps: Mapping[str, int] | None = None,
    keep: Collection[str] = (),
    runs: Runs | None = None,
) -> Any:
    """The model with `action.mixed(name, output)` in the place of each named layer's output, or of its input.

    Args:
        model: Of one sample.
        actions: By name.
        vmaps: Over how many axes the model is mapped at each, if not over the samples' alone.
        keep: Names of the input's entries that are left.
        runs: Where it is noted what runs.
    """

    def mapped(name: str) -> _Mapped:
        return _Mapped(Placed(actions[name], name, runs), max((vmaps or {}).get(name, 1), 1))

    inner_first = sorted({*actions} - {INPUT}, key=lambda name: -name.count("."))
    for name in inner_first:

        def put_in(layer: Any, name: str = name) -> Mixed:
            return Mixed(layer, mapped(name))

        model = eqx.tree_at(partial(layer_at, name), model, replace_fn=put_in)
    return MixedInput(model, mapped(INPUT), frozenset(keep)) if INPUT in actions else model


def _vmapped(model: Any, *args: Any, **kwargs: Any) -> Any:
    return jax.vmap(lambda args, kwargs: model(*args, **kwargs))(args, kwargs)


class Mixer(BaseMixer):
    """Mixes an Equinox model, inside the loss:

        logits = jax.vmap(mixer.mixed(model, plan))(images)
        target = mixer.target(labels, plan)

    The model itself is left as it is.

    Args:
        model: An `equinox.Module` of one sample.
        channel_dim: -1 or 1, where CutMix and PatchUp find channels, the batch axis being first; a sample is (C, H, W).
        call: Calls the model with the example, where that is not `jax.vmap(model)(*example)`: for states and keys,
            `lambda model, x: jax.vmap(model, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(x, state)[0]`.
    """

    def __init__(
        self,
        model: Any,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any,
        call: Callable[..., Any] | None = None,
        channel_dim: int = 1,
        **options: Any,
    ) -> None:
        if not isinstance(model, eqx.Module):
            raise TypeError(f"a model is an equinox.Module, got {type(model).__name__}.")
        super().__init__(
            Equinox(call), model, method, layers, example=example, channel_dim=channel_dim, **options
        )

    def mixed(self, model: Any, plan: Plan | None) -> Any:
        """The model with the plan at its place, for `jax.vmap`; to be made inside the loss: gradients are the model's.

        Args:
            model: The model, or what training has made of it.
            plan: The step's plan; None: the model as it is.
        """
        actions = self._actions(model, plan)
        self._owe(plan)
        if plan is not None and INPUT in plan.reached:
            actions[INPUT] = plan
        if plan is not None and plan.mixes:
            self._runs.owe(actions)
        return acting(model, actions, self._found.vmaps, self.keep, self._runs)


def audit(model: Any, example: Any, call: Callable[..., Any] | None = None) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    The model is traced, and not run; its jaxpr tells whether anything goes round a layer.

    Args:
        model: An `equinox.Module` of one sample.
        example: A batch: an array, a tuple of positional or a dict of keyword arguments; or jax.ShapeDtypeStruct.
        call: As of `Mixer`.
    """
    return Equinox(call).audit(model, example).report
