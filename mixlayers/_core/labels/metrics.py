"""Calibration, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.framework.framework import Framework
from mixlayers._core.labels.labels import check_bits, check_tensor
from mixlayers._core.labels.outputs import binary_labels, check_soft, class_labels
from mixlayers._core.labels.reduce import blended, counted
from mixlayers._core.labels.target import MixedTarget

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
    if not len(right):
        raise ValueError("a calibration error needs a label that counts, got none.")
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    distance = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(distance).sum() / len(right))


def mixed_calibration_error(framework: Framework, output: Any, target: Any, bins: int, ignored: int) -> float:
    """The core of every backend's `calibration_error`; `target` may be mixed."""
    scores = class_scores(framework, output)
    shape = scores.shape
    scores -= scores.max(axis=1, keepdims=True)
    confidence = 1.0 / np.exp(scores).sum(axis=1)
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, scores.argmax(axis=1)

    def hits(y: Any) -> tuple[Array, Array]:
        labels = of_largest(framework, y, shape, ignored)
        labels = framework.to_numpy(labels)
        counts: Array = (labels != ignored).astype(np.float64)
        return (predicted == labels) * counts, counts

    s = mixed.s if isinstance(mixed.s, float) else framework.to_numpy(mixed.s)
    (first, own), (second, theirs) = hits(mixed.y), hits(mixed.partner)
    counts = (1.0 - s) * own + s * theirs
    mixed.used = used  # a metric is no loss: one must still use the target
    right = (1.0 - s) * first + s * second
    some = counts > 0.0
    return calibration_error(confidence[some], right[some] / counts[some], bins)


def mixed_accuracy(framework: Framework, output: Any, target: Any, topk: int, ignored: int) -> Any:
    """The core of every backend's `accuracy`; `target` may be mixed.

    Args:
        framework: Whose tensors they are.
        output: Scores, (N, K), (N, K, *space), or one logit a sample, (N,) or (N, 1).
        target: Mixed or plain.
        topk: How many of the highest scores a label may be among.
        ignored: The label that does not count.

    Returns:
        A scalar array of the framework, on the output's device.
    """
    scores, shape = framework.label(output), tuple(output.shape)
    one = len(shape) == 1 or shape[1] == 1
    if not shape or (not one and not 1 <= topk <= shape[1]) or topk < 1:
        raise ValueError(f"topk must be in [1, K] for scores of shape (N, K), got {topk} for {shape}.")
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, points = mixed.used, max(len(shape) - 2, 0)
    best = None if one else framework.top(scores, topk)

    def parts(y: Any) -> tuple[Any, Any]:
        """Hits, and which labels count, (N, *space, ...)."""
        check_tensor(framework, y)
        several = not framework.is_float(y) and tuple(y.shape) == shape and len(shape) > 1
        if one or several:
            if several and topk > 1:
                raise ValueError(
                    f"topk={topk} needs one label a sample, got rows of shape {shape}: leave it out."
                )
            values, valid = binary_labels(framework, y, shape, ignored)
            if framework.is_float(y):
                _check_no_numbers(framework, y, one=one)
            right = framework.to_float((scores > 0.0) == (values > 0.5)) * valid
            right = right * framework.to_float(scores == scores)  # nan is no prediction
            return tuple(framework.move_axis(x, 1, -1) for x in (right, valid)) if points else (right, valid)
        labels = of_largest(framework, y, shape, ignored)
        valid = framework.to_float(labels != ignored)
        among = (best == labels.reshape((shape[0], 1, *shape[2:]))).any(1)
        told = 1.0 - framework.to_float((scores != scores).any(1))
        return framework.to_float(among) * valid * told, valid

    hits = blended(framework, mixed, lambda y: parts(y)[0], points)
    counts = counted(framework, mixed, lambda y: parts(y)[1], points)
    mixed.used = used  # a metric is no loss: one must still use the target
    total = counts.sum()
    return hits.sum() / (total + framework.to_float(total == 0.0))


def class_scores(framework: Framework, output: Any) -> npt.NDArray[np.float64]:
    """Logits on the host, (N, K)."""
    scores = framework.to_numpy(output).astype(np.float64)
    if scores.ndim != 2:
        raise ValueError(f"output must be logits of shape (N, K), got shape {scores.shape}.")
    largest = scores.max(axis=1, initial=-np.inf)
    if np.isnan(scores).any() or not np.isfinite(largest).all():
        raise ValueError(
            "output must be logits, got rows that hold nan or inf, or nothing but -inf: the model diverged."
        )
    return scores


def of_largest(framework: Framework, y: Any, output: Sequence[int], ignored: int) -> Any:
    """Labels as class indices (N, *space); soft ones are their largest class."""
    check_tensor(framework, y)
    y = framework.label(y)
    if framework.is_float(y):
        check_soft(y, output)
        _check_no_numbers(framework, y, one=False)
        return y.argmax(1)
    if tuple(y.shape) == tuple(output) and output[1] > 1:
        check_bits(framework, y)
        hot = framework.to_numpy(y)
        if (wrong := hot.sum(1) != 1).any():
            raise ValueError(
                "calibration and temperature take one class a sample, got the row "
                f"{hot[wrong.argmax()].astype(int).tolist()}: leave such samples out; several labels a sample have no "
                "one class to be sure of."
            )
        return framework.to_float(y).argmax(1)
    return class_labels(framework, y, output, ignored)


def _check_no_numbers(framework: Framework, y: Any, *, one: bool) -> None:
    """Raise if floating-point labels are numbers that were regressed on: they have no classes."""
    if framework.checks(y):
        values = framework.to_numpy(y)
        fits = (values == 0.0) | (values == 1.0) if one else (values >= 0.0) & (values <= 1.0)
        wrong = values[~fits]
        if wrong.size:
            rule = "the label of one logit is 0 or 1" if one else "probabilities are in [0, 1]"
            raise ValueError(
                f"accuracy needs classes, and {rule}, got {wrong.flat[0]}: for regression report an error of your own, "
                "target.blend(lambda y: abs(output - y).mean()), in Chainer's Classifier as accfun, or set its "
                "compute_accuracy to False."
            )
