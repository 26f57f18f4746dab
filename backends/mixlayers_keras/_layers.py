"""A model's layers: their names, and how to act on what they return."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any, Final, NamedTuple

import keras

from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.errors import refuse
from mixlayers_keras._masks import keep_mask, mask_of

_DONE: Final = "_mixlayers_done"
_ACTING: dict[type, type] = {}
"""A layer's class -> the same, whose output something is done to."""


def layers_of(model: keras.Model) -> dict[str, keras.Layer]:
    """A model's layers by name, without itself; what is inside of others is named after them: "block.conv"."""
    found: dict[str, keras.Layer] = {}
    seen = {id(model)}

    def walk(parent: keras.Layer, prefix: str) -> None:
        for layer in parent._layers:  # the one way into layers that are no models
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            name = f"{prefix}{layer.name}"
            while name in found:
                name += "_again"
            found[name] = layer
            walk(layer, f"{name}.")

    walk(model, "")
    return found


def described(layer: keras.Layer) -> Layer:
    """A layer's own columns of the audit's report."""
    weighted = any(len(weight.shape) > 1 for weight in layer.weights)
    return Layer(type(layer).__name__, weighted, leaf=not layer._layers)


def training(model: keras.Model) -> dict[str, bool]:
    """The arguments by which a trainer calls a model in training."""
    return {"training": True} if model._call_has_training_arg else {}


def build(model: keras.Model, x: Any) -> None:
    """Build what is not built: within an audit its calls would count too, and on JAX its variables would be traced."""
    if not all(layer.built for layer in (model, *layers_of(model).values())):
        model(x, training=False)


@contextmanager
def acting(
    actions: Mapping[Any, Callable[[Any], Any]], masks: Mapping[Any, Collection[str]]
) -> Iterator[None]:
    """Around calls of a model: something is done to what some of its layers return.

    For the time each is of a class made from its own, by the same name: what `call` is given and does stays, also where
    it is recomputed in the backward pass.

    Args:
        actions: What is done, by layer.
        masks: The arguments, by layer, that are given the masks that come with the inputs: see `handed_on`.

    Raises:
        MixingError: If something is done to one of the layers already.
    """
    before: dict[Any, type] = {}
    try:
        for layer in {*actions, *masks}:
            done = _Done(actions.get(layer), masks.get(layer, ()))
            if vars(layer).setdefault(_DONE, done) is not done:
                refuse(
                    f"the layer {layer.name!r} is being mixed by another step, or looked at",
                    "let one thread train, wrap or audit what holds it, and none of them inside of another",
                )
            before[layer] = type(layer)
            object.__setattr__(layer, "__class__", _acting_class(before[layer]))
        yield
    finally:
        for layer, base in before.items():
            object.__setattr__(layer, "__class__", base)
            object.__delattr__(layer, _DONE)


class _Done(NamedTuple):
    """What is done to a layer: to what it returns, and to which masks that it is given."""

    after: Callable[[Any], Any] | None
    masks: Collection[str]


def _masks_of_inputs(layer: Any, names: Collection[str], args: Any, kwargs: Any) -> dict[str, Any]:
    """The masks that come with a layer's inputs, by the arguments that take them."""
    if not names:
        return {}
    asked = signature(layer.call)
    known = {name: value for name, value in kwargs.items() if name in asked.parameters}  # not `training`
    taken = asked.bind_partial(*args, **known).arguments
    inputs = {name: next(iter(taken)) if name == "mask" else name.removesuffix("_mask") for name in names}
    return {name: keras.tree.map_structure(mask_of, taken.get(of)) for name, of in inputs.items()}


def _acting_class(base: type) -> type:
    if base not in _ACTING:

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            done = vars(self).get(_DONE)  # another thread may be done with it
            if done is None:
                return base.__call__(self, *args, **kwargs)
            held = [(x, mask_of(x)) for x in keras.tree.flatten((args, kwargs))]
            kwargs = {**kwargs, **_masks_of_inputs(self, done.masks, args, kwargs)}
            first = args[0] if args else next(iter(kwargs.values()), None)
            own = kwargs.get("mask")
            own = keras.tree.map_structure(mask_of, first) if own is None else own
            output = base.__call__(self, *args, **kwargs)
            for x, mask in held:
                keep_mask(x, mask)
            if self.supports_masking and any(mask is not None for mask in keras.tree.flatten(own)):
                made = keras.tree.flatten(self.compute_mask(first, own))
                for x, mask in zip(keras.tree.flatten(output), made, strict=False):
                    keep_mask(x, mask)
            return output if done.after is None else done.after(output)

        like = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
        _ACTING[base] = type(base.__name__, (base,), {**like, "__call__": call})
    return _ACTING[base]
