"""Flax NNX: while the model is called, the plan is data of the layer that it is for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Final

import jax
from flax import nnx

from mixlayers import Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.documents import add_arguments
from mixlayers._core.errors import refuse
from mixlayers._core.model.mixer import check_signature, check_unwrapped
from mixlayers._core.model.wrapping import Wrapping
from mixlayers_jax._audit import Marks
from mixlayers_jax._iebn.nnx import (
    IEBN,
    RBN,
    convert_iebn,
    convert_rbn,
    revert_iebn,
    revert_rbn,
    update_bn,
)
from mixlayers_jax._iebn.plain import iebn_decay_mask
from mixlayers_jax._mixer import BaseMixer, Library
from mixlayers_jax._plan import Placed, Plan
from mixlayers_jax._runs import Runs

__all__ = [
    "IEBN",
    "RBN",
    "Mixer",
    "audit",
    "convert_iebn",
    "convert_rbn",
    "get_mixer",
    "iebn_decay_mask",
    "revert_iebn",
    "revert_rbn",
    "unwrap",
    "update_bn",
    "wrap",
]

_PLACED: Final = "_mixlayers_placed"
_LOCK: Final = Lock()
_HERE: ContextVar[tuple[Runs | None, ...]] = ContextVar("mixlayers_nnx", default=())
"""Whose models are called in this thread, each with its plan: another's calls of their layers are its own."""
_MADE: dict[type, type] = {}
"""A layer's class -> the same, whose output is mixed."""


class Nnx(Library):
    """Modules of `flax.nnx`."""

    def modules(self, model: nnx.Module) -> dict[str, Any]:
        found = nnx.iter_modules(model)
        return {".".join(map(str, path)): module for path, module in found if path and callable(module)}

    def kind(self, module: Any) -> type:
        kind = type(module)
        return kind.__bases__[0] if kind in _MADE.values() else kind  # another thread's call mixes it

    def described(self, model: nnx.Module, names: Collection[str]) -> dict[str, Layer]:
        modules = self.modules(model)
        return {
            name: Layer(
                type(module).__name__,
                weighted=any(x.ndim > 1 for x in jax.tree.leaves(nnx.state(module, nnx.Param))),
                leaf=not any(other.startswith(f"{name}.") for other in modules),
            )
            for name, module in modules.items()
        }

    def marked(self, model: Any, marks: Marks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        copy: Any = nnx.clone(model)
        copy.train()
        with self.acting(copy, dict.fromkeys(self.modules(copy), marks)):
            return copy(*args, **kwargs)

    @contextmanager
    def acting(
        self, model: nnx.Module, actions: Mapping[str, Any], runs: Runs | None = None
    ) -> Iterator[None]:
        if not actions:
            yield
            return
        modules = self.modules(model)
        with _LOCK:
            for name, module in modules.items():
                placed = vars(module).get(_PLACED)
                if placed is not None and (placed.runs is runs or name in actions):
                    refuse(
                        f"the layer {name!r} is being mixed by another call of the model",
                        "let one thread train it eagerly, and call it in none of its own mixed calls; nnx.jit gives "
                        "each call a model of its own",
                    )
            before = {name: type(modules[name]) for name in actions}
            for name, action in actions.items():
                module = modules[name]
                setattr(module, _PLACED, nnx.data(Placed(action, name, runs)))
                object.__setattr__(module, "__class__", _acting_class(before[name]))
        token = _HERE.set((*_HERE.get(), runs))
        try:
            yield
        finally:
            _HERE.reset(token)
            for name, base in before.items():
                module = modules[name]
                object.__setattr__(module, "__class__", base)
                delattr(module, _PLACED)


NNX: Final = Nnx()


class Mixer(BaseMixer):
    """Mixes a `flax.nnx.Module`, inside `nnx.jit`. From now on the model also takes a target and a plan:

        logits, target = model(images, target=labels, plan=plan)

    Without them a call is what it was. The model is of a class made from its own, of the same name; `unwrap(model)`
    gives its own back. Its state is untouched.

    Args:
        model: A `flax.nnx.Module`; its layers' names are found in it.
    """

    def __init__(self, model: nnx.Module, *args: Any, **kwargs: Any) -> None:
        if not isinstance(model, nnx.Module):
            raise TypeError(f"a model is a flax.nnx.Module, got {type(model).__name__}.")
        check_unwrapped(
            (name, _mixer_of(module)) for name, module in [("", model), *NNX.modules(model).items()]
        )
        check_signature(model, model.__call__)
        super().__init__(NNX, model, *args, **kwargs)
        object.__setattr__(model, "__class__", _Top.of(self, type(model)).kind)

    def _call(self, model: Any, base: Any, target: Any, plan: Plan | None, args: Any, kwargs: Any) -> Any:
        actions, args, kwargs = self._planned(model, plan, args, kwargs, target)
        with self._running(actions, plan), NNX.acting(model, actions, self._runs):
            output = base.__call__(model, *args, **kwargs)
        return output if target is None else (output, self.target(target, plan))


class _Top:
    """The class of a wrapped model: copies share it, and its mixer; a pickle makes it anew, with a mixer of its own."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    @classmethod
    def of(cls, mixer: Mixer, base: type) -> _Top:
        """A class made from a model's own."""
        body = {"__call__": _model_call, "__reduce_ex__": _reduced, "_mixlayers": (mixer, base)}
        return cls(type(base.__name__, (base,), {**_like(base), **body}))

    def __deepcopy__(self, memo: Any) -> _Top:
        return self

    def __reduce__(self) -> Any:
        return _Top.of, self.kind._mixlayers


def _reduced(self: Any, protocol: Any) -> Any:
    top = type(self)
    make, (_, *arguments), *rest = top._mixlayers[1].__reduce_ex__(self, protocol)
    return (_made, (make, _Top(top), *arguments), *rest)


def _made(make: Any, top: _Top, *arguments: Any) -> Any:
    return make(top.kind, *arguments)


def wrap(model: Any, method: Method | None = None, layers: Layers = "auto", **options: Any) -> Any:
    """Let a model mix, and return it; its mixer is `get_mixer(model)`."""
    Mixer(model, method, layers, **options)
    return model


add_arguments(wrap, BaseMixer)


def audit(model: nnx.Module, example: Any) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    The model is traced in training mode, and not run; its jaxpr tells whether anything goes round a layer.

    Args:
        model: Any module.
        example: What it takes: an array, a tuple of positional or a dict of keyword arguments; or jax.ShapeDtypeStruct.
    """
    return NNX.audit(model, example).report


def _mixer_of(model: Any) -> Mixer | None:
    found: tuple[Mixer, type] | None = getattr(type(model), "_mixlayers", None)
    return None if found is None else found[0]


def _model_call(self: Any, *args: Any, target: Any = None, plan: Plan | None = None, **kwargs: Any) -> Any:
    mixer, base = type(self)._mixlayers
    return mixer._call(self, base, target, plan, args, kwargs)


def _acting_class(base: type) -> type:
    if base not in _MADE:

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            placed = vars(self).get(_PLACED)  # another thread may be done with it
            output = base.__call__(self, *args, **kwargs)
            return output if placed is None or placed.runs not in _HERE.get() else placed.mixed(output)

        _MADE[base] = type(base.__name__, (base,), {**_like(base), "__call__": call})
    return _MADE[base]


def _like(base: type) -> dict[str, Any]:
    return {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}


def _restore(model: Any, mixer: Mixer) -> None:
    object.__setattr__(model, "__class__", type(model)._mixlayers[1])


_wrapping = Wrapping(Mixer, _mixer_of, _restore)
unwrap, get_mixer = _wrapping.unwrap, _wrapping.get_mixer
