"""Padding masks that a functional model wrote into its graph, where Keras itself hands them on with the features."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import chain
from typing import Any

import keras
from keras.src.backend import get_keras_mask


def handed_on(models: Iterable[keras.Layer]) -> dict[Any, set[str]]:
    """The layers whose masks in the graph are those of their own inputs, and the arguments that take them.

    A functional model computes a mask from the tokens, and gives it to each layer that takes one: round what comes
    between. Without the argument the layer finds the same mask with its input, as in a subclassed model.

    Args:
        models: The model, and its layers, of which some may be models.
    """
    found: dict[Any, set[str]] = {}
    given: set[Any] = set()
    for model in models:
        graph = getattr(
            getattr(model, "_functional", None) or model, "_nodes_by_depth", {}
        )  # a Sequential holds one
        for node in chain(*graph.values()):
            layer, arguments = node.operation, node.arguments
            named = {
                name: mask
                for name, mask in arguments.kwargs.items()
                if name.endswith("mask") and any(map(keras.backend.is_keras_tensor, keras.tree.flatten(mask)))
            }
            if not named or not isinstance(layer, keras.Layer):
                continue
            taken = inspect.signature(layer.call).bind_partial(*arguments.args, **arguments.kwargs).arguments
            for name, mask in named.items():
                of = next(iter(taken)) if name == "mask" else name.removesuffix("_mask")
                inputs, masks = keras.tree.flatten(taken.get(of)), keras.tree.flatten(mask)
                own = len(inputs) == len(masks) and all(map(_alike, map(get_keras_mask, inputs), masks))
                (found.setdefault(layer, set()).add(name) if own else given.add(layer))
    return {layer: names for layer, names in found.items() if layer not in given}


def _alike(one: Any, other: Any) -> bool:
    """Whether two symbolic tensors are one, or come by the same operations from one: a loaded model has two."""
    if one is other:
        return True
    if not (keras.backend.is_keras_tensor(one) and keras.backend.is_keras_tensor(other)):
        return bool(isinstance(one, int | float | str) and one == other)
    first, second = one._keras_history, other._keras_history
    if isinstance(first.operation, keras.Layer) or type(first.operation) is not type(second.operation):
        return False
    ours, theirs = (each.operation._inbound_nodes[each.node_index].arguments for each in (first, second))
    flat = [keras.tree.flatten((each.args, each.kwargs)) for each in (ours, theirs)]
    return (
        first.tensor_index == second.tensor_index
        and _options(first.operation) == _options(second.operation)
        and len(flat[0]) == len(flat[1])
        and all(map(_alike, *flat))
    )


def _options(operation: Any) -> dict[str, Any]:
    """What an operation was made with, such as its axis."""
    return {name: value for name, value in vars(operation).items() if name[0] != "_" and name != "name"}
