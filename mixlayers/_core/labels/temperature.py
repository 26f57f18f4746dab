"""Temperature scaling, on the host."""

from __future__ import annotations

import math
import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mixlayers._core.framework.framework import Framework
from mixlayers._core.labels.metrics import class_scores, of_largest
from mixlayers._core.labels.target import MixedTarget

Scores = npt.NDArray[np.float64]

SMALLEST: Final = 0.01
LARGEST: Final = 100.0
_ENOUGH: Final = 1e-10  # of the logarithm: further steps change no digit that anybody reads
_MOST_STEPS: Final = 100


def fit_temperature(scores: Scores, labels: npt.NDArray[Any]) -> float:
    """Temperature T in [SMALLEST, LARGEST] at which softmax(scores / T) gives the labels the best likelihood.

    The mean negative log-likelihood is convex in 1 / T, and its slope there is the score that the network expects less
    the score of the label. Newton's steps on log T look for the place where the two are equal; a bracket that only
    gets narrower holds them, and is halved where a step would leave it.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        scores: Logits or log-probabilities, (N, K); -inf for classes that are masked out.
        labels: Class indices, (N,).
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(labels)), labels]
    if not np.isfinite(own).all():
        raise ValueError(
            "a label's own score is -inf, so that no temperature gives it a likelihood: score its class."
        )
    finite = np.where(np.isfinite(scores), scores, 0.0)  # masked classes have no weight, whatever stands here

    def slope(inverse: float) -> tuple[float, float]:
        """The derivative with respect to 1 / T, and its own one."""
        weights = np.exp(inverse * scores)
        weights /= weights.sum(axis=1, keepdims=True)
        expected = (weights * finite).sum(axis=1)
        curvature = (weights * finite**2).sum(axis=1) - expected**2
        return float((expected - own).mean()), float(curvature.mean())

    low, high = -math.log(LARGEST), -math.log(SMALLEST)  # of log 1 / T
    if slope(math.exp(low))[0] >= 0.0:
        return LARGEST
    if slope(math.exp(high))[0] <= 0.0:
        return SMALLEST
    place = 0.0
    for _ in range(_MOST_STEPS):
        inverse = math.exp(place)
        first, second = slope(inverse)
        low, high = (place, high) if first < 0.0 else (low, place)
        rise = inverse * second  # of the slope, over log 1 / T
        step = place - first / rise if rise > 0.0 else math.inf
        before, place = place, step if low < step < high else (low + high) / 2.0
        if abs(place - before) < _ENOUGH:
            break
    return math.exp(-place)


def fitted_temperature(framework: Framework, output: Any, target: Any, ignored: int) -> float:
    """What every backend's `temperature` does."""
    if isinstance(target, MixedTarget):
        raise TypeError(
            "temperature is fitted on images that are not mixed, got a MixedTarget: call the model in eval mode on "
            "validation images, and give their labels."
        )
    scores = class_scores(framework, output)
    labels = framework.to_numpy(of_largest(framework, target, scores.shape, ignored))
    some = labels != ignored
    if not some.any():
        raise ValueError(f"temperature needs a label that counts, got {len(labels)} that do not.")
    found = fit_temperature(scores[some], labels[some])
    if found in (SMALLEST, LARGEST):
        why = "every label has the highest score" if found == SMALLEST else "guessing would do no worse"
        warnings.warn(
            f"No finite temperature is best for these {some.sum()} labels, as {why}: {found:g} is the end of the "
            "range. Fit on more validation images.",
            stacklevel=3,
        )
    return found
