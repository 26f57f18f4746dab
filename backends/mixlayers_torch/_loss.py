"""Losses of mixed targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mixlayers import MixedTarget
from mixlayers._criterion import soft_labels
from mixlayers_torch._framework import TORCH


def cross_entropy(output: Tensor, target: MixedTarget | Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits, mean over the batch, for mixed or plain targets.

    Equal to `F.cross_entropy(output, target.soft(num_classes), label_smoothing=...) * target.loss_scale`,
    with one log-softmax for both labels.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices or soft labels, as F.cross_entropy takes them.
        label_smoothing: Epsilon in [0, 1).
    """
    if not isinstance(target, MixedTarget):
        return F.cross_entropy(output, target, label_smoothing=label_smoothing)
    # cross_entropy of log-probabilities is their negative log-likelihood: their log-softmax is themselves
    logs = F.log_softmax(output, 1)

    def each(y: Tensor) -> Tensor:
        if y.is_floating_point():
            return -(y * logs).sum(1)
        return F.nll_loss(logs, y, reduction="none")

    loss = target.blend(each)
    if label_smoothing:
        loss = (1.0 - label_smoothing) * loss - label_smoothing * logs.mean(1)
    return loss.mean() * target.loss_scale


def binary_cross_entropy(
    output: Tensor,
    target: MixedTarget | Tensor,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
) -> Tensor:
    """Binary cross-entropy of logits, mean over samples and classes, for mixed or plain targets.

    For several labels a sample, and for one as in "ResNet strikes back" (arXiv:2110.00476): class indices become
    one-hot rows.

    Args:
        output: Logits, (N, K).
        target: A mixed target, class indices (N,), or labels (N, K) in [0, 1].
        label_smoothing: Epsilon in [0, 1), spread evenly over the K classes: for one class a sample.
        target_threshold: A mixed label above it counts as 1, any other as 0 (timm's recipe has 0.2); None: the
            labels' shares.

    Raises:
        ValueError: If target_threshold is not in [0, 1).
    """
    labels, scale = soft_labels(TORCH, target, output.shape[1], label_smoothing, target_threshold)
    return F.binary_cross_entropy_with_logits(output, labels.to(output.dtype)) * scale
