"""Losses of mixed targets."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mixlayers import MixedTarget
from mixlayers._core.labels.binary import binary_points
from mixlayers._core.labels.outputs import check_soft, class_labels
from mixlayers._core.labels.reduce import blended, check_reduction, check_smoothing, counted, scale_of
from mixlayers_torch._framework import IGNORED, TORCH

_HALF = (torch.float16, torch.bfloat16)


def cross_entropy(
    output: Tensor,
    target: MixedTarget | Tensor,
    label_smoothing: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Cross-entropy of logits, for mixed or plain targets; summed in float32.

    Of plain labels it is `F.cross_entropy` with the same arguments, of mixed ones the blend of theirs by each
    sample's (or, under a mask, each point's) share, times `target.loss_scale`, with one log-softmax for both labels.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices (N, ...), or probabilities of the output's shape.
        label_smoothing: Epsilon in [0, 1].
        weight: Of each class, (K,).
        ignore_index: Labels of this number do not count.
        reduction: "mean" over what counts, by its weights; "sum"; or "none", one value for each label.

    Returns:
        A tensor of the output's dtype (under autocast float32).

    Raises:
        ValueError: If the labels fit no such output, or hold a class that there is not.
    """
    check_smoothing(label_smoothing)
    half, kind = output.dtype in _HALF, output.device.type
    logs = F.log_softmax(output.float() if half else output, 1)
    loss = negative_log_likelihood(logs, target, weight, ignore_index, reduction, label_smoothing)
    casts = half and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return loss.to(output.dtype) if half and not casts else loss


def negative_log_likelihood(
    logs: Tensor,
    target: MixedTarget | Tensor,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss of log-probabilities (N, K, ...), with one of them for both labels; arguments as of `cross_entropy`."""
    check_reduction(reduction)
    shape, classes = tuple(logs.shape), logs.shape[1]
    weight = None if weight is None else weight.to(logs.dtype)
    weighted = logs if weight is None else logs * weight.view(1, classes, *(1,) * (logs.ndim - 2))

    def each(y: Tensor) -> Tensor:
        if y.is_floating_point():
            check_soft(y, shape)
            soft = y.to(logs.dtype)
            if label_smoothing:
                soft = soft * (1.0 - label_smoothing) + label_smoothing / classes
            return -(soft * weighted).sum(1)
        y = class_labels(TORCH, y, shape, ignore_index).long()
        loss = F.nll_loss(logs, y, weight, ignore_index=ignore_index, reduction="none")
        if not label_smoothing:
            return loss
        evenly = -weighted.sum(1) * (y != ignore_index)
        return (1.0 - label_smoothing) * loss + label_smoothing / classes * evenly

    def count(y: Tensor) -> Tensor:
        if y.is_floating_point():
            return torch.ones_like(logs[:, 0])
        y = class_labels(TORCH, y, shape, ignore_index)
        valid = (y != ignore_index).to(logs.dtype)
        return valid if weight is None else weight[(y * (y != ignore_index)).long()] * valid

    loss = blended(TORCH, target, each, logs.ndim - 2)
    if reduction == "mean":
        loss = loss.sum() / counted(TORCH, target, count, logs.ndim - 2).sum()
    elif reduction == "sum":
        loss = loss.sum()
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
        TORCH, target, output.shape, label_smoothing, target_threshold, ignore_index
    )
    own = output.float() if output.dtype in _HALF else output
    loss = F.binary_cross_entropy_with_logits(
        own, labels.to(own.dtype), share.to(own.dtype), reduction="none"
    )
    if reduction == "mean":
        loss = loss.sum() / share.sum()
    elif reduction == "sum":
        loss = loss.sum()
    return (loss * scale).to(output.dtype)
