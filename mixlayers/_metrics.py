"""Calibration, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._framework import Framework
from mixlayers._target import MixedTarget

Array = npt.NDArray[Any]


def calibration_error(confidence: Array, right: Array, bins: int = 15) -> float:
    """Expected calibration error: the mean distance between confidence and accuracy.

    Samples are put into equally wide bins of confidence; bin b holds confidences in (b / bins, (b + 1) / bins].
    The distances of the bins are averaged by their sizes.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        confidence: Probability of the predicted class, (N,).
        right: Whether the prediction is right, or how far, in [0, 1], (N,).
        bins: How many bins, >= 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}: 15 is usual.")
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    distance = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(distance).sum() / len(right))


def mixed_calibration_error(framework: Framework, output: Any, target: Any, bins: int) -> float:
    """What every backend's `calibration_error` does; `target` may be mixed."""
    scores = framework.to_numpy(output).astype(np.float64)
    if scores.ndim != 2:
        raise ValueError(f"output must be logits of shape (N, K), got shape {scores.shape}.")
    scores -= scores.max(axis=1, keepdims=True)
    confidence = 1.0 / np.exp(scores).sum(axis=1)
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, scores.argmax(axis=1)

    def hits(y: Any) -> Array:
        labels = framework.to_numpy(y)
        if labels.ndim == 2:
            labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
        hit: Array = (predicted == labels).astype(np.float64)
        return hit

    s = mixed.s if isinstance(mixed.s, float) else framework.to_numpy(mixed.s)
    right = (1.0 - s) * hits(mixed.y) + s * hits(mixed.partner)
    mixed.used = used  # a metric is no loss: one must still use the target
    return calibration_error(confidence, right, bins)


def check_topk(topk: int, shape: Any) -> None:
    """Raise unless 1 <= topk <= K, for scores of shape (N, K)."""
    if len(shape) != 2 or not 1 <= topk <= shape[1]:
        raise ValueError(f"topk must be in [1, K] for scores of shape (N, K), got {topk} for {tuple(shape)}.")
