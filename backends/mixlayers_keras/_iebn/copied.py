"""Copies of Functional and Sequential models with other layers in place of some."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import keras
from keras.layers import BatchNormalization

from mixlayers._core.iebn import report
from mixlayers_keras._iebn.layer import assign
from mixlayers_keras._mixer import _mixer_of

Model = TypeVar("Model", bound=keras.Layer)

_GRAPHS: Final = keras.Sequential | keras.Function
"""Sequential and Functional models."""


def _is_graph(layer: object) -> bool:
    """Whether it is a Functional or Sequential model, and no code of its own runs it: it can be copied with others."""
    if not isinstance(layer, _GRAPHS):
        return False
    runs = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return runs.__module__.startswith("keras.")


def layers_to_copy(model: keras.Layer, kind: type[keras.Layer]) -> dict[str, Any]:
    """The layers of a model and of the models in it, which can be copied, by name, itself as ''.

    Args:
        model: A graph, or a norm.
        kind: Of the layer to write in a model that cannot be copied.

    Raises:
        TypeError: If a model's own code runs them.
        ValueError: If the model is wrapped.
    """
    found = _layers(model)
    own = [layer for layer in found.values() if isinstance(layer, _GRAPHS) and not _is_graph(layer)]
    if own or not (_is_graph(model) or isinstance(model, BatchNormalization)):
        raise TypeError(
            "a copy with other layers can be made of Functional and Sequential models, got "
            f"{type((own or [model])[0]).__name__}, whose own code runs its layers: write "
            f"mixlayers.keras.{kind.__name__} where it says BatchNormalization (the arguments are the same), build it, "
            f"and bring the weights over, layer by layer, by {kind.__name__}.from_batchnorm(norm).get_weights()."
        )
    if any(_mixer_of(layer) is not None for layer in found.values()):
        raise ValueError(
            "the model is wrapped, and its copy would not mix: convert first, then wrap; or unwrap it."
        )
    return found


def _layers(model: keras.Layer) -> dict[str, Any]:
    found: dict[str, Any] = {"": model}

    def walk(inside: Any, prefix: str) -> None:
        for layer in inside.layers:
            if isinstance(layer, keras.layers.InputLayer):  # a copy may give it another name
                continue
            found[f"{prefix}{layer.name}"] = layer
            if _is_graph(layer):
                walk(layer, f"{prefix}{layer.name}.")

    if _is_graph(model):
        walk(model, "")
    return found


def copied(
    model: Model,
    chosen: Mapping[str, Any],
    make: Callable[[Any], keras.Layer],
    fill: Callable[[Any, Any], None],
    by: str,
) -> Model:
    """A copy of the model with other layers in place of those chosen.

    Args:
        model: A graph, or a norm.
        chosen: The norms, by name.
        make: Makes the new layer from the old one; it is built in the copy, so that its weights' paths stay.
        fill: Gives the new layer its weights.
        by: What took their place.
    """
    norms = {id(norm): norm for norm in chosen.values()}
    new = {key: make(norm) for key, norm in norms.items()}

    def copy(operation: Any) -> Any:
        if id(operation) in new:
            return new[id(operation)]
        if not isinstance(operation, keras.layers.Lambda):
            return type(operation).from_config(operation.get_config())
        made = type(operation).from_config(operation.get_config(), safe_mode=False)
        made.function = operation.function  # as it is written down it has lost the names that it knows
        return made

    old = _layers(model)
    with _as_if_not_compiled(old.values()):
        clone: Callable[..., Any] = keras.models.clone_model
        result = new[id(model)] if id(model) in new else clone(model, clone_function=copy, recursive=True)
    for key, norm in norms.items():
        fill(new[key], norm)
    copies = _layers(result)
    for name, layer in copies.items():
        was = old[name]
        layer.trainable = was.trainable
        if not _is_graph(layer) and id(was) not in new:
            for own, theirs in zip(layer.variables, was.variables, strict=True):
                assign(own, theirs)
    report(chosen, len(new), by, _size(result) - _size(model))
    if plain := [was for name, was in old.items() if _is_graph(was) and type(copies[name]) is not type(was)]:
        warnings.warn(
            f"copied as plain Functional models, which compute the same: {', '.join(each.name for each in plain)}, of "
            f"class {type(plain[0]).__name__}. Methods and attributes of such a class are not copied.",
            stacklevel=4,
        )
    return cast(Model, result)


@contextmanager
def _as_if_not_compiled(layers: Iterable[Any]) -> Iterator[None]:
    """While models are copied: Keras would copy losses and metrics too, and fail where they are one's own."""
    compiled = [layer for layer in layers if _is_graph(layer) and layer.compiled]
    for model in compiled:
        model.compiled = False
    try:
        yield
    finally:
        for model in compiled:
            model.compiled = True


def _size(model: keras.Layer) -> int:
    """How many numbers there are in the weights."""
    return sum(math.prod(weight.shape) for weight in model.weights)
