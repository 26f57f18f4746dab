"""Copy a model with IEBN or RBN in place of its batch norms, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import ops
from keras.layers import BatchNormalization

from mixlayers._core.audit.places import Layers, select_layers
from mixlayers._core.iebn import norms_to_convert, norms_to_revert, warn_of_left
from mixlayers_keras._iebn.copied import Model, copied, layers_to_copy
from mixlayers_keras._iebn.layer import IEBN, RBN, PerInstance, like, take
from mixlayers_keras._layers import layers_of

Also = Mapping[type[keras.Layer], Callable[[Any], keras.Layer]]


def convert_iebn(
    model: Model, *, skip: Layers = (), preserve_output: bool = False, also: Also = MappingProxyType({})
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
    return _convert(model, IEBN, skip, preserve_output, also)


def convert_rbn(
    model: Model, *, skip: Layers = (), preserve_output: bool = False, also: Also = MappingProxyType({})
) -> Model:
    """A copy of a model whose `keras.layers.BatchNormalization` layers are RBN: all that `convert_iebn` says holds.

    Args:
        model, skip, also: As of `convert_iebn`.
        preserve_output: Divide each gamma by sigmoid(bias_readjust), 0.73 at first, so that the model computes the
            same function before its first step. Meant for pretrained models.

    Returns:
        The new model.

    Raises:
        TypeError, ValueError: As `convert_iebn`.
    """
    return _convert(model, RBN, skip, preserve_output, also)


def _convert(model: Model, kind: type[PerInstance], skip: Layers, preserve_output: bool, also: Also) -> Model:
    layers = layers_to_copy(model, kind)
    reached = {id(layer) for layer in layers.values()}
    within = {
        name: norm
        for name, norm in layers_of(model).items()
        if _is_norm(norm, also) and id(norm) not in reached
    }
    every = {**layers, **within}

    def bare(norm: Any) -> str | None:
        if not (preserve_output and isinstance(norm, BatchNormalization)):
            return None
        return "scale=False" if not norm.scale else None if norm.built else "one that is not built yet"

    if within:
        skipped = () if isinstance(skip, tuple | list) and not skip else select_layers(skip, every)
        why = "since it is inside a layer that makes it itself, which cannot be copied with another: write "
        why += f"{kind.__name__} there"
        warn_of_left({name: norm for name, norm in within.items() if name not in skipped}, 4, why)
    chosen = norms_to_convert(
        model,
        every,
        skip,
        is_norm=lambda layer: _is_norm(layer, also) and id(layer) in reached,
        is_known=lambda norm: type(norm) in also or type(norm) is BatchNormalization,
        bare=bare,
    )

    def make(norm: Any) -> keras.Layer:
        return also[type(norm)](norm) if type(norm) in also else like(norm, kind)

    def fill(new: Any, norm: Any) -> None:
        if type(norm) not in also:
            take(new, norm)
        if preserve_output and isinstance(new, PerInstance) and new.built and new.scale:
            new.gamma.assign(new.gamma / ops.sigmoid(new.bias_readjust))

    return copied(model, chosen, make, fill, kind.__name__)


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
    return _revert(model, IEBN, preserve_output)


def revert_rbn(model: Model, *, preserve_output: bool = False) -> Model:
    """A copy of a model whose RBN layers are BatchNormalization: what `convert_rbn` did, undone.

    Args:
        model, preserve_output: As of `revert_iebn`; exact where weight_readjust and weight_recenter are 0.

    Returns:
        The new model.

    Raises:
        TypeError, ValueError: As `revert_iebn`.
    """
    return _revert(model, RBN, preserve_output)


def _revert(model: Model, kind: type[PerInstance], preserve_output: bool) -> Model:
    zero = [name for name, start in kind.starts.items() if start == 0.0]

    def folds(norm: Any) -> bool:
        return norm.built and norm.scale and not any(ops.any(getattr(norm, name).value) for name in zero)

    name = kind.__name__
    chosen = norms_to_revert(model, layers_to_copy(model, kind), kind, name, preserve_output, folds)

    def fill(new: Any, norm: Any) -> None:
        take(new, norm)
        if preserve_output:
            new.gamma.assign(new.gamma * ops.sigmoid(norm.bias_readjust))

    return copied(model, chosen, lambda norm: like(norm, BatchNormalization), fill, "BatchNormalization")


def iebn_parameters(model: keras.Layer) -> tuple[list[Any], list[Any]]:
    """The trainable weights that BatchNormalization has too, and those that IEBN and RBN add.

    Weight decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale. To
    decay the others alone, before `compile`: `optimizer.exclude_from_weight_decay(iebn_parameters(model)[1])`.

    Raises:
        ValueError: If the model holds no IEBN or RBN, or none that is built.
    """
    every = (model, *layers_of(model).values())
    norms = [layer for layer in every if isinstance(layer, PerInstance) and layer.built]
    if not norms:
        raise ValueError(
            f"{type(model).__name__} holds no IEBN or RBN that is built: convert_iebn(model) first."
        )
    added = {id(getattr(norm, name)) for norm in norms for name in norm.starts}
    weights = model.trainable_weights
    return (
        [weight for weight in weights if id(weight) not in added],
        [weight for weight in weights if id(weight) in added],
    )


def _is_norm(layer: object, also: Also = MappingProxyType({})) -> bool:
    return (isinstance(layer, BatchNormalization) and not isinstance(layer, PerInstance)) or type(
        layer
    ) in also
