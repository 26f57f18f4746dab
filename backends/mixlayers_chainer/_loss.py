"""Losses of mixed targets."""

from __future__ import annotations

from typing import Literal

import chainer
import chainer.functions as F
import numpy as np
from chainer import Variable, backend

from mixlayers import MixedTarget
from mixlayers._core.labels.binary import binary_points
from mixlayers._core.labels.outputs import check_soft, class_labels
from mixlayers._core.labels.reduce import blended, check_reduction, check_smoothing, counted, scale_of
from mixlayers_chainer._blend import Array
from mixlayers_chainer._framework import CHAINER, IGNORED


def cross_entropy(
    output: Variable,
    target: MixedTarget | Variable | Array,
    label_smoothing: float = 0.0,
    weight: Array | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Variable:
    """Softmax cross-entropy for mixed or plain targets; summed in float32. Fit as `lossfun` of any classifier.

    Of plain labels it is `F.softmax_cross_entropy(output, target, class_weight=weight, ignore_label=ignore_index)`; of
    mixed ones the blend of theirs by each sample's (or, under a mask, each point's) share, times
    `target.loss_scale`.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices (N,) or (N, ...), or probabilities of the output's shape.
        label_smoothing: Epsilon in [0, 1].
        weight: Of each class, (K,); as in Chainer the mean is not by them.
        ignore_index: Labels of this number do not count.
        reduction: "mean" over the labels that count, "sum", or "none" (Chainer's "no"), one value for each label.

    Returns:
        A Variable of the output's dtype.

    Raises:
        ValueError: If the labels fit no such output, or hold a class that there is not.
    """
    check_reduction(reduction)
    check_smoothing(label_smoothing)
    output = chainer.as_variable(output)
    shape, classes = output.shape, output.shape[1]
    logs = F.log_softmax(_whole(output))
    dtype = logs.dtype
    if weight is not None:
        weight = chainer.as_array(weight).astype(dtype, copy=False)
        logs = logs * F.broadcast_to(weight.reshape(1, classes, *(1,) * (output.ndim - 2)), shape)

    def probabilities(y: Variable | Array) -> Variable | Array:
        """(N, K, *space): the loss is affine in them, so that they may be blended and the logits need not be."""
        if CHAINER.is_float(y):
            check_soft(y, shape)
            soft, valid = y, 1.0
        else:
            y = class_labels(CHAINER, chainer.as_array(y), shape, ignore_index)
            valid = (y != ignore_index)[:, None].astype(dtype)
            hot = CHAINER.hot(CHAINER.zeroed(y, y != ignore_index), classes).astype(dtype)
            soft = backend.get_array_module(hot).moveaxis(hot, -1, 1) * valid
        if label_smoothing:
            soft = (1.0 - label_smoothing) * soft + label_smoothing / classes * valid
        soft = _last(soft) if output.ndim > 2 else soft
        return F.cast(soft, dtype) if isinstance(soft, Variable) else soft.astype(dtype, copy=False)

    def count(y: Variable | Array) -> Array:
        if CHAINER.is_float(y):
            return logs.array[:, 0] * 0.0 + 1.0
        y = class_labels(CHAINER, chainer.as_array(y), shape, ignore_index)
        return (y != ignore_index).astype(dtype)

    soft = blended(CHAINER, target, probabilities, output.ndim - 2)
    loss = -F.sum(F.cast(soft, dtype) * (_last(logs) if output.ndim > 2 else logs), axis=-1)
    if reduction == "mean":
        number = counted(CHAINER, target, count, output.ndim - 2).sum(dtype=np.float64)
        loss = F.sum(loss) / max(float(number), 1.0)
    elif reduction == "sum":
        loss = F.sum(loss)
    return F.cast(loss * scale_of(target), output.dtype)


def binary_cross_entropy(
    output: Variable,
    target: MixedTarget | Variable | Array,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Variable:
    """Binary cross-entropy of logits, by default the mean over samples and classes, for mixed or plain targets.

    For several labels a sample, and for one as in "ResNet strikes back" (arXiv:2110.00476): class indices become
    one-hot rows. With one logit a sample, (N,) or (N, 1), labels are 0 or 1, as `F.sigmoid_cross_entropy` takes them.

    Args:
        output: Logits, (N,), (N, K) or (N, K, ...).
        target: A mixed target, class indices (N, ...), or labels of the output's shape: whole numbers 0 and 1, bool,
            or floating-point ones in [0, 1].
        label_smoothing: Epsilon in [0, 1), spread evenly over the K classes: for one class a sample.
        target_threshold: A mixed label above it counts as 1, any other as 0 (timm's recipe has 0.2); None: the
            labels' shares.
        ignore_index: Whole-number labels of this number do not count.
        reduction: "mean" over what counts, "sum", or "none", one value for each logit.

    Raises:
        ValueError: If target_threshold is not in [0, 1); if the labels fit no such output, or hold a number that
            there is not.
    """
    check_reduction(reduction)
    output = chainer.as_variable(output)
    labels, share, scale = binary_points(
        CHAINER, target, output.shape, label_smoothing, target_threshold, ignore_index
    )
    own = _whole(output)
    loss = (F.softplus(own) - labels.astype(own.dtype) * own) * share.astype(own.dtype)
    if reduction == "mean":
        loss = F.sum(loss) / max(float(share.sum()), 1e-30)
    elif reduction == "sum":
        loss = F.sum(loss)
    return F.cast(loss * scale, output.dtype)


def _whole(output: Variable) -> Variable:
    """The summand, as float32 where it is float16, which is too small for sums."""
    return F.cast(output, np.float32) if output.dtype == np.float16 else output


def _last(x: Variable | Array) -> Variable | Array:
    """The class axis, after the batch's, as the last one."""
    return CHAINER.move_axis(x, 1, -1)
