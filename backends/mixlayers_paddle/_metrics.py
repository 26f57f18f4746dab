"""Accuracy and calibration under mixed targets."""

from __future__ import annotations

import paddle
from paddle import Tensor

from mixlayers import MixedTarget
from mixlayers._metrics import check_topk, mixed_calibration_error
from mixlayers_paddle._framework import PADDLE, class_labels


def accuracy(output: Tensor, target: MixedTarget | Tensor, topk: int = 1) -> Tensor:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K).
        target: A mixed target, class indices (N,) or (N, 1), or soft labels (N, K), which count as their largest class.
        topk: A label among so many of the highest scores counts, 1 <= topk <= K.

    Returns:
        A scalar tensor on the output's place.

    Raises:
        ValueError: If topk is out of its range.
    """
    check_topk(topk, output.shape)
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, paddle.topk(output, topk, axis=1)[1]

    def each(y: Tensor) -> Tensor:
        labels = y.argmax(1) if PADDLE.is_float(y) else class_labels(y)
        return (predicted == labels.astype(predicted.dtype).unsqueeze(1)).any(1).astype("float32")

    hits = mixed.blend(each)
    mixed.used = used  # a metric is no loss: one must still use the target
    return hits.mean()


def calibration_error(output: Tensor, target: MixedTarget | Tensor, bins: int = 15) -> float:
    """Expected calibration error (Guo et al., ICML 2017), computed on the host; for validation, not for each step.

    Under mixing a prediction is right by the share of the label that it names.

    Args:
        output: Logits, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.
        bins: Number of equally wide bins of confidence.
    """
    return mixed_calibration_error(PADDLE, output, target, bins)
