"""The losses that a model was compiled with, blended: each label with its own sample's weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
from keras.src.trainers.compile_utils import CompileLoss  # what stands between a model and its losses

from mixlayers_keras._step import Step


class _Blended(CompileLoss):
    """A model's losses in a step that may mix."""

    _mixlayers_step: Step
    _mixlayers_plain: list[Any] | None
    _flat_losses: list[Any] | None

    def build(self, y_true: Any, y_pred: Any) -> None:
        super().build(y_true, y_pred)
        self._blend()

    def call(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        self._blend()
        try:
            return super().call(y_true, y_pred, sample_weight)
        finally:
            self._flat_losses = self._mixlayers_plain

    def _blend(self) -> None:
        """The losses for this call, if they are built: TensorFlow's first step builds them."""
        step, plain = self._mixlayers_step, self._flat_losses
        self._mixlayers_plain = plain
        if plain is not None:
            self._flat_losses = [each._replace(loss=partial(blended, step, each.loss)) for each in plain]


@contextmanager
def blending(model: keras.Model, step: Step) -> Iterator[None]:
    """Around one training step of a model."""
    losses: Any = model._compile_loss
    if losses is None:
        yield
        return
    base = type(losses)
    losses._mixlayers_step, losses._mixlayers_plain = step, None
    losses.__class__ = _Blended
    try:
        yield
    finally:
        losses.__class__ = base
        del losses._mixlayers_step, losses._mixlayers_plain


def blended(step: Step, loss: Callable[..., Any], y: Any, y_pred: Any, weight: Any = None) -> Any:
    """One loss of one output: `(1 - s) * loss(y, weight) + s * loss(y[perm], weight[perm])`.

    Where shares differ they are weights of samples, or of points of labels that follow a mask.
    """
    target = step.target(y)
    if not target.mixed:
        return loss(y, y_pred, weight)
    theirs = None if weight is None else step.rows(weight)
    points = len(y_pred.shape) - 2
    s = target._share_map(y_pred, points) if target.follows(points) else target.s
    if len(getattr(s, "shape", ())):
        if getattr(loss, "reduction", None) == "mean_with_sample_weight":
            raise ValueError(
                "a loss with reduction='mean_with_sample_weight' divides by the weights, which are the shares where "
                "lam is drawn per sample, or labels follow a mask: leave the reduction out, or lam_per."
            )
        one = loss(target.y, y_pred, _times(weight, 1.0 - s))
        other = loss(target.partner, y_pred, _times(theirs, s))
        value = one + other
    else:
        value = (1.0 - s) * loss(target.y, y_pred, weight) + s * loss(target.partner, y_pred, theirs)
    return value * target.loss_scale


def _times(weight: Any, share: Any) -> Any:
    """A sample weight times a share, whichever has more axes."""
    if weight is None:
        return share
    weight = keras.ops.convert_to_tensor(weight)
    axes = max(len(weight.shape), len(share.shape))
    weight, share = (
        keras.ops.reshape(each, (*each.shape, *(1,) * (axes - len(each.shape)))) for each in (weight, share)
    )
    return weight * share
