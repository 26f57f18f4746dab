"""Accuracy and calibration under mixed targets."""

from __future__ import annotations

from typing import Any

from jax import Array

from mixlayers import MixedTarget
from mixlayers._core.labels.metrics import mixed_accuracy, mixed_calibration_error
from mixlayers_jax._framework import IGNORED, JAX
from mixlayers_jax._loss import classes_second


def accuracy(
    output: Any,
    target: MixedTarget | Any,
    topk: int = 1,
    ignore_index: int = IGNORED,
    axis: int = -1,
) -> Array:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels. In jit or outside.

    Args:
        output: Scores, (N, K) or (N, ..., K); or one logit a sample, (N,) or (N, 1), which says 1 above 0.
        target: A mixed target: class indices (N, ...), or (N, 1); probabilities of the output's shape, which count as
            their largest class; or 0 and 1 for each logit, whole numbers or bool of the output's shape, each a
            prediction of its own.
        topk: A label among so many of the highest scores counts, 1 <= topk <= K.
        ignore_index: Labels of this number do not count.
        axis: Where the output has its classes: -1, or 1.

    Raises:
        ValueError: If topk is out of its range; if the labels fit no such output, or hold a class that there is not.
    """
    output, target = classes_second(output, target, axis)
    hits: Array = mixed_accuracy(JAX, output, target, topk, ignore_index)
    return hits


def calibration_error(
    output: Any,
    target: MixedTarget | Any,
    bins: int = 15,
    ignore_index: int = IGNORED,
) -> float:
    """Expected calibration error (Guo et al., ICML 2017), computed on the host; for validation, not for each step.

    Under mixing a prediction is right by the share of the label that it names.

    Args:
        output: Logits, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.
        bins: Number of equally wide bins of confidence.
        ignore_index: Labels of this number do not count.
    """
    return mixed_calibration_error(JAX, output, target, bins, ignore_index)
