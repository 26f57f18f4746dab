"""Losses and accuracy of mixed targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mixlayers import MixedTarget


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


def accuracy(output: Tensor, target: MixedTarget | Tensor) -> Tensor:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.

    Returns:
        A scalar tensor on the output's device.
    """
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, output.argmax(1)
    hits: Tensor = mixed.blend(lambda y: (predicted == (y.argmax(1) if y.ndim > 1 else y)).float())
    mixed.used = used  # a metric is no loss: one must still use the target
    return hits.mean()
