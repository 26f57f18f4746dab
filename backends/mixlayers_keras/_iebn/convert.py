"""Copy a model with IEBN in place of its batch norms, and back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import keras
from keras import ops
from keras.layers import BatchNormalization

from mixlayers._core.audit.places import Layers, select_layers
from mixlayers._core.iebn import norms_to_convert, norms_to_revert, report, warn_of_left
from mixlayers_keras._iebn.layer import IEBN, assign, like, take
from mixlayers_keras._layers import layers_of
from mixlayers_keras._mixer import _mixer_of

Model = TypeVar("Model", bound=keras.Layer)


def convert_iebn(
    model: Model,
    *,
    skip: Layers = (),
    preserve_output: bool = False,
    also: Mapping[type[keras.Layer], Callable[[Any], keras.Layer]] = MappingProxyType({}),
) -> Model:
    """A copy of a model whose `keras.layers.BatchNormalization` layers are IEBN; the one given is left as it is.

    By `keras.models.clone_model`: names, weights, policies and `trainable` stay, a layer used twice stays one layer,
    models inside of models are copied too. What was replaced is logged ("mixlayers", INFO). The order is: convert,
    then `mixlayers.keras.wrap`, then `compile`: the copy is not compiled. Subclasses of BatchNormalization, and norms
    inside layers of one's own class, are left as they are, and a warning names them.

    Args:
        model: A Functional or Sequential model. A norm that is the model itself is returned converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate. A layer of an inner
            model has both names, "inner.norm".
        preserve_output: Divide each gamma by sigmoid(bias_readjust), 0.27 at first, so that the model computes the
            same function before its first step. Meant for pretrained models.
        also: Norms of other classes: what makes the new layer from the old one, by class. `IEBN.from_batchnorm` does
            so with a subclass that only normalises.

    Returns:
        The new model.

    Raises:
        TypeError: If the model is a subclass of `keras.Model` whose own code runs its layers.
        ValueError: If the model is wrapped, if nothing is there to convert, if `skip` matches no layer, or if the
            output of a norm without a gamma, or not yet built, is to be preserved.
    """
    layers = _layers(model)
    reached = {id(layer) for layer in layers.values()}
    within = {
        name: norm
        for name, norm in layers_of(model).items()
        if _is_norm(norm, also) and id(norm) not in reached
    }
    every = {**layers, **within}

    def bare(norm: Any) -> str | None:
        if not preserve_output or type(norm) in also:
            return None
        return "scale=False" if not norm.scale else None if norm.built else "one that is not built yet"

    if within:
        skipped = () if isinstance(skip, tuple | list) and not skip else select_layers(skip, every)
        why = "since it is inside a layer that makes it itself, which cannot be copied with another: write IEBN there"
        warn_of_left({name: norm for name, norm in within.items() if name not in skipped}, 3, why)
    chosen = norms_to_convert(
        model,
        every,
        skip,
        is_norm=lambda layer: _is_norm(layer, also) and id(layer) in reached,
        is_known=lambda norm: type(norm) in also or type(norm) is BatchNormalization,
        bare=bare,
        stacklevel=4,
    )

    def make(norm: Any) -> keras.Layer:
        return also[type(norm)](norm) if type(norm) in also else like(norm, IEBN)

    def fill(new: Any, norm: Any) -> None:
        if type(norm) not in also:
            take(new, norm)
            if preserve_output:
                new.gamma.assign(new.gamma / ops.sigmoid(new.bias_readjust))

    return _copied(model, chosen, make, fill, "IEBN")


def revert_iebn(model: Model, *, preserve_output: bool = False) -> Model:
    """A copy of a model whose IEBN layers are BatchNormalization: what `convert_iebn` did, undone.

    Args:
        model: A Functional or Sequential model; an IEBN that is the model itself is returned reverted.
        preserve_output: Fold the attention in: multiply each gamma by sigmoid(bias_readjust). Exact where
            weight_readjust is 0; other layers stay IEBN, and the log names them.

    Returns:
        The new model.

    Raises:
        TypeError: If the model is a subclass of `keras.Model` whose own code runs its layers.
        ValueError: If the model is wrapped, or if there is no layer to revert.
    """
    chosen = norms_to_revert(model, _layers(model), IEBN, "IEBN", preserve_output, _folds)

    def fill(new: Any, norm: Any) -> None:
        take(new, norm)
        if preserve_output:
            new.gamma.assign(new.gamma * ops.sigmoid(norm.bias_readjust))

    return _copied(model, chosen, lambda norm: like(norm, BatchNormalization), fill, "BatchNormalization")


def iebn_parameters(model: keras.Layer) -> tuple[list[Any], list[Any]]:
    """The trainable weights that are not the attention's, and those that are.

    Weight decay pulls bias_readjust from -1 to 0, which lets every sample through at half scale. To decay the others
    alone, before `compile`: `optimizer.exclude_from_weight_decay(iebn_parameters(model)[1])`.

    Raises:
        ValueError: If the model holds no IEBN, or none that is built.
    """
    norms = [layer for layer in (model, *layers_of(model).values()) if _is_iebn(layer) and layer.built]
    if not norms:
        raise ValueError(f"{type(model).__name__} holds no IEBN that is built: convert_iebn(model) first.")
    attention = {id(weight) for norm in norms for weight in (getattr(norm, name) for name in norm.starts)}
    weights = model.trainable_weights
    return (
        [weight for weight in weights if id(weight) not in attention],
        [weight for weight in weights if id(weight) in attention],
    )


def _is_iebn(layer: object) -> bool:
    return isinstance(layer, IEBN)


def _is_norm(layer: object, also: Mapping[type[keras.Layer], Any] = MappingProxyType({})) -> bool:
    return (isinstance(layer, BatchNormalization) and not _is_iebn(layer)) or type(layer) in also


def _folds(norm: IEBN) -> bool:
    return bool(norm.built and norm.scale and not ops.any(norm.weight_readjust.value))


_GRAPHS: Final = keras.Sequential | keras.Function
"""Sequential and Functional models."""


def _is_graph(layer: object) -> bool:
    """Whether it is a Functional or Sequential model, and no code of its own runs it: it can be copied with others."""
    if not isinstance(layer, _GRAPHS):
        return False
    runs = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return runs.__module__.startswith("keras.")


def _layers(model: keras.Layer) -> dict[str, Any]:
    """The layers of a model and of the models in it, which can be copied, by name, itself as ''.

    Raises:
        TypeError: If a model's own code runs them.
        ValueError: If the model is wrapped.
    """
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
    elif not (_is_norm(model) or _is_iebn(model)):
        raise TypeError(_own_code(model))
    if own := [layer for layer in found.values() if isinstance(layer, _GRAPHS) and not _is_graph(layer)]:
        raise TypeError(_own_code(own[0]))
    if any(_mixer_of(layer) is not None for layer in found.values()):
        raise ValueError(
            "the model is wrapped, and its copy would not mix: convert first, then wrap; or unwrap it."
        )
    return found


def _own_code(model: keras.Layer) -> str:
    """The error text for a model that cannot be copied with other layers."""
    return (
        f"a copy with other layers can be made of Functional and Sequential models, got {type(model).__name__}, whose "
        "own code runs its layers: write mixlayers.keras.IEBN where it says BatchNormalization (the arguments are the "
        "same), build it, and bring the weights over, layer by layer, by IEBN.from_batchnorm(norm).get_weights()."
    )


def _copied(
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
            stacklevel=3,
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
