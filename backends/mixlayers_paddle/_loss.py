"""Losses and accuracy of mixed targets."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor

from mixlayers import MixedTarget
from mixlayers_paddle._framework import PADDLE, class_labels


def cross_entropy(output: Tensor, target: MixedTarget | Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits, mean over the batch, for mixed or plain targets.

    Equal to `F.cross_entropy(output, target.soft(num_classes), soft_label=True, axis=1, label_smoothing=...)
    * target.loss_scale`, with one log-softmax for both labels.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices, (N,) or (N, 1), or soft labels.
        label_smoothing: Epsilon in [0, 1).
    """
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    logs = F.log_softmax(output, 1)

    def each(y: Tensor) -> Tensor:
        if PADDLE.is_float(y):
            return -(y * logs).sum(1)
        return F.nll_loss(logs, class_labels(y) if output.ndim == 2 else y, reduction="none")

    loss = mixed.blend(each)
    if label_smoothing:
        loss = (1.0 - label_smoothing) * loss - label_smoothing * logs.mean(1)
    return loss.mean() * mixed.loss_scale


def accuracy(output: Tensor, target: MixedTarget | Tensor) -> Tensor:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K).
        target: A mixed target, class indices, (N,) or (N, 1), or soft labels (N, K), which count as their
            largest class.

    Returns:
        A scalar tensor on the output's place.
    """
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, output.argmax(1)

    def each(y: Tensor) -> Tensor:
        labels = y.argmax(1) if PADDLE.is_float(y) else class_labels(y)
        return (predicted == labels.astype(predicted.dtype)).astype("float32")

    hits = mixed.blend(each)
    mixed.used = used  # a metric is no loss: one must still use the target
    return hits.mean()
