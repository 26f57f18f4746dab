"""Padding masks that a functional model wrote into its graph, where Keras itself hands them on with the features."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import keras
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.backend.common.tensor_attributes import get_tensor_attr, set_tensor_attr

_KEPT: Final = "_mixlayers_mask"


def handed_on(models: Iterable[keras.Layer]) -> dict[Any, set[str]]:
    """The layers of graphs that hold masks, and the arguments by which they take those of their own inputs, if any.

    A functional model computes a mask from the tokens, and gives it to each layer that takes one: round what comes
    between. Without the argument the layer is given the mask that comes with its input, which `acting` keeps track of.

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
            if not isinstance(layer, keras.Layer) or isinstance(layer, keras.layers.InputLayer):
                continue
            found.setdefault(layer, set())
            if not named:
                continue
            taken = inspect.signature(layer.call).bind_partial(*arguments.args, **arguments.kwargs).arguments
            for name, mask in named.items():
                of = next(iter(taken)) if name == "mask" else name.removesuffix("_mask")
                inputs, masks = keras.tree.flatten(taken.get(of)), keras.tree.flatten(mask)
                own = len(inputs) == len(masks) and all(map(_alike, map(get_keras_mask, inputs), masks))
                (found[layer].add(name) if own else given.add(layer))
    if not any(found.values()):
        return {}
    return {layer: set() if layer in given else names for layer, names in found.items()}


def mask_of(x: Any) -> Any:
    """A tensor's padding mask, also where attention took it off: what else the tensor goes into has it all the same."""
    mask = get_keras_mask(x)
    return get_tensor_attr(x, _KEPT) if mask is None and x is not None else mask


def keep_mask(x: Any, mask: Any) -> None:
    """Have `mask_of` know a tensor's mask, and Keras see what it sees without."""
    if x is not None and mask is not None and mask_of(x) is None:
        set_tensor_attr(x, _KEPT, mask)


def give_mask(x: Any, mask: Any, *, like: Any) -> None:
    """Give a tensor a mask that Keras sees if it sees that of another one."""
    (keep_mask if get_keras_mask(like) is None else set_keras_mask)(x, mask)


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
