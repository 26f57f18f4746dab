"""The losses that a model was compiled with, blended: each label with its own sample's weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.trainers.compile_utils import CompileLoss  # what stands between a model and its losses

from mixlayers_keras._step import Step

StepOf = Callable[[Any], Step | None]
"""Of labels, the step whose batch holds them."""


class _Blended(CompileLoss):
    """A model's losses, each of which blends the labels of a step's batch; others, as in evaluation, it takes as ever.

    Attributes:
        step_of: Finds the step.
    """

    step_of: StepOf

    def call(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        self.step_of(y_true)  # raises where only some of them are a batch's
        return super().call(y_true, y_pred, sample_weight)

    @property
    def _flat_losses(self) -> list[Any] | None:
        plain: list[Any] | None = vars(self)["_flat_losses"]
        if plain is None or not self.built:  # as the first step of TensorFlow fills it
            return plain
        return [each._replace(loss=partial(blended, self.step_of, each.loss)) for each in plain]

    @_flat_losses.setter
    def _flat_losses(self, value: list[Any] | None) -> None:
        self.__dict__["_flat_losses"] = value


def blend_losses(model: keras.Model, step_of: StepOf) -> None:
    """From now on the losses that a model was compiled with blend."""
    losses: Any = model._compile_loss
    if losses is not None:
        losses.step_of, losses.__class__ = step_of, _Blended


def restore_losses(model: keras.Model) -> None:
    """Take it back."""
    losses: Any = model._compile_loss
    if isinstance(losses, _Blended):
        losses.__class__ = CompileLoss
        del losses.step_of


def blended(step_of: StepOf, loss: Callable[..., Any], y: Any, y_pred: Any, weight: Any = None) -> Any:
    """One loss of one output: `(1 - s) * loss(y, weight) + s * loss(y[perm], weight[perm])`.

    Where shares differ they are weights of samples, or of points of labels that follow a mask. A padding mask that the
    predictions have was united of two samples', and each term counts by its own sample's.
    """
    step = step_of(y)
    target = None if step is None else step.target(y)
    if step is None or target is None or not target.mixed:
        return loss(y, y_pred, weight)
    theirs = None if weight is None else step.rows(weight)
    masks = step.masks(y_pred, weight)
    points = len(y_pred.shape) - 2
    follows = target.follows(points)
    if not follows and getattr(target.plan, "masked", False) and len(target.y.shape) > 2:
        raise ValueError(
            f"the step mixed under a mask, so labels of shape {tuple(target.y.shape)} must follow it point by point, "
            f"and predictions of shape {tuple(y_pred.shape)} have no such points before their last axis: give both an "
            "axis of channels, (N, H, W, 1), or take a method without masks."
        )
    s = target._share_map(y_pred, points) if follows else target.s
    if len(getattr(s, "shape", ())):
        if getattr(loss, "reduction", None) == "mean_with_sample_weight":
            raise ValueError(
                "a loss with reduction='mean_with_sample_weight' divides by the weights, which are the shares where "
                "lam is drawn per sample, or labels follow a mask: leave the reduction out, or lam_per."
            )
        # a weight that Keras multiplies by a padding mask, or by that of a class that is ignored, in place on PyTorch
        if masks.own is not None or follows:
            points_of = y_pred[..., 0] if masks.own is None else masks.own
            s = _times(keras.ops.ones_like(points_of, dtype=s.dtype), s)
        kept, given = _times(weight, 1.0 - s), _times(theirs, s)
        checked = _checked(loss, tuple(kept.shape))
        own = _masked(checked, y_pred, masks.own, target.y, kept)
        value = own + _masked(checked, y_pred, masks.partner, target.partner, given)
    else:
        own = _masked(loss, y_pred, masks.own, target.y, weight)
        value = (1.0 - s) * own + s * _masked(loss, y_pred, masks.partner, target.partner, theirs)
    return value * target.loss_scale


def _masked(loss: Callable[..., Any], y_pred: Any, mask: Any, y: Any, weight: Any) -> Any:
    """The loss of predictions that have this padding mask meanwhile."""
    found = get_keras_mask(y_pred)
    if mask is found:
        return loss(y, y_pred, weight)
    set_keras_mask(y_pred, mask)
    try:
        return loss(y, y_pred, weight)
    finally:
        set_keras_mask(y_pred, found)


def _checked(loss: Any, weighted: tuple[int | None, ...]) -> Any:
    """A loss that gets shares for weights: what it calculates must have a value for each, which Keras does not ask.

    It is a view of the user's: the state is one, and nothing else is written there, for another thread may use it.

    Raises:
        ValueError: When called, if it has none, such as a loss that takes the mean over samples itself.
    """
    call = getattr(loss, "call", None)
    if call is None:
        return loss

    def checked(*args: Any, **kwargs: Any) -> Any:
        values = call(*args, **kwargs)
        shape = tuple(values.shape)
        if not _weighable(shape, weighted):
            raise ValueError(
                f"lam is drawn per sample, or labels follow a mask, so {getattr(loss, 'name', loss)!r} needs one value "
                f"for each, shape {weighted}, got shape {shape}: return them, leave the mean to Keras; "
                'or take lam_per="batch", and a method without masks.'
            )
        return values

    kind = type(loss)
    view: Any = object.__new__(type(kind.__name__, (kind,), {"call": property(lambda view: checked)}))
    view.__dict__ = vars(loss)
    return view


def _weighable(shape: tuple[int | None, ...], weights: tuple[int | None, ...]) -> bool:
    """Whether Keras would multiply values of a shape by weights each by its own."""
    if len(shape) == len(weights) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(weights) == len(shape) + 1 and weights[-1] == 1:
        weights = weights[:-1]
    alike = (None in (one, weight) or weight in (1, one) for one, weight in zip(shape, weights, strict=False))
    return len(shape) == len(weights) and all(alike)


def _times(weight: Any, share: Any) -> Any:
    """A sample weight times a share, whichever has more axes."""
    if weight is None:
        return share
    weight = keras.ops.convert_to_tensor(weight)
    axes = max(len(weight.shape), len(share.shape))
    return _wide(weight, axes) * _wide(share, axes)


def _wide(x: Any, axes: int) -> Any:
    """With as many axes, the new ones last."""
    while len(x.shape) < axes:
        x = keras.ops.expand_dims(x, -1)
    return x
