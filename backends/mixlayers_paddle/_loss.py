"""Losses of mixed targets."""

from __future__ import annotations

from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from mixlayers import MixedTarget
from mixlayers._core.labels.binary import binary_points
from mixlayers._core.labels.outputs import check_soft, class_labels
from mixlayers._core.labels.reduce import blended, check_reduction, check_smoothing, counted, scale_of
from mixlayers_paddle._framework import IGNORED, PADDLE

_HALF = (paddle.float16, paddle.bfloat16)


def cross_entropy(
    output: Tensor,
    target: MixedTarget | Tensor,
    label_smoothing: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Cross-entropy of logits, for mixed or plain targets; summed in float32.

    Of plain labels it is `F.cross_entropy(output, target, axis=1)` with the same arguments (and smoothed labels with
    points or ignored ones, which that does not take, as they should be); of mixed ones the blend of theirs by each
    sample's (or, under a mask, each point's) share, times `target.loss_scale`, with one log-softmax for both labels.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices, (N,), (N, 1) or (N, ...), or probabilities of the output's shape.
        label_smoothing: Epsilon in [0, 1].
        weight: Of each class, (K,).
        ignore_index: Labels of this number cost nothing. As in Paddle they are left out of the mean only if it is
            0 or more, or if there are weights.
        reduction: "mean" by the weights; "sum"; or "none", one value for each label.

    Raises:
        ValueError: If the labels fit no such output, or hold a class that there is not.
    """
    check_reduction(reduction)
    check_smoothing(label_smoothing)
    shape, classes = tuple(output.shape), output.shape[1]
    own = output.astype("float32") if output.dtype in _HALF else output
    weight = None if weight is None else weight.astype(own.dtype)
    # one log-softmax for both labels
    logs = F.log_softmax(own, 1)
    axes = [1, classes] + [1] * (len(shape) - 2)

    def smooth(y: Tensor) -> Tensor:
        soft = y.astype(logs.dtype)
        return soft * (1.0 - label_smoothing) + label_smoothing / classes if label_smoothing else soft

    def weights(y: Tensor) -> Tensor:
        """Of each label: Paddle weighs a soft one by the mean of its classes' weights."""
        if PADDLE.is_float(y):
            soft = smooth(y)
            return soft.sum(1) * 0.0 + 1.0 if weight is None else (soft * weight.reshape(axes)).sum(1)
        y = class_labels(PADDLE, y, shape, ignore_index).astype("int64")
        valid = (y != ignore_index).astype(logs.dtype)
        if weight is None:
            return valid
        given = paddle.gather(weight, (y * valid.astype("int64")).reshape([-1])).reshape(y.shape)
        return ((1.0 - label_smoothing) * given + label_smoothing * weight.mean()) * valid

    def each(y: Tensor) -> Tensor:
        if PADDLE.is_float(y):
            check_soft(y, shape)
            loss = -(smooth(y) * logs).sum(1)
        else:
            y = class_labels(PADDLE, y, shape, ignore_index).astype("int64")
            loss = F.nll_loss(logs, y, ignore_index=ignore_index, reduction="none")
            if label_smoothing:
                evenly = -logs.mean(1) * (y != ignore_index).astype(logs.dtype)
                loss = (1.0 - label_smoothing) * loss + label_smoothing * evenly
        return loss if weight is None else loss * weights(y)

    loss = blended(PADDLE, target, each, len(shape) - 2)
    if reduction == "mean" and weight is None and ignore_index < 0:
        loss = loss.mean()
    elif reduction == "mean":
        total = counted(PADDLE, target, weights, len(shape) - 2).sum()
        loss = loss.sum() / (total + (total == 0.0).astype(total.dtype))
    elif reduction == "sum":
        loss = loss.sum()
    loss = loss.astype(output.dtype)
    scale = scale_of(target)
    return loss if scale == 1.0 else loss * scale


def binary_cross_entropy(
    output: Tensor,
    target: MixedTarget | Tensor,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Binary cross-entropy of logits, by default the mean over samples and classes, for mixed or plain targets.

    For several labels a sample, and for one as in "ResNet strikes back" (arXiv:2110.00476): class indices become
    one-hot rows. With one logit a sample, (N,) or (N, 1), labels are 0 or 1.

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
    labels, share, scale = binary_points(
        PADDLE, target, output.shape, label_smoothing, target_threshold, ignore_index
    )
    own = output.astype("float32") if output.dtype in _HALF else output
    loss = F.binary_cross_entropy_with_logits(own, labels.astype(own.dtype), reduction="none")
    loss = loss * share.astype(own.dtype)
    if reduction == "mean":
        loss = loss.sum() / share.sum().astype(own.dtype)
    elif reduction == "sum":
        loss = loss.sum()
    return (loss * scale).astype(output.dtype)
