"""What the demo measures: accuracy, negative log-likelihood, calibration, and accuracy under attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from mixlayers.cli.data import Images, Labels

if TYPE_CHECKING:
    from mixlayers.cli.sides import Learner

ATTACKED: Final = 1000
"""At most so many test images are attacked; an attack costs three times a test."""

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One run's results on the test images; fractions, not per cent."""

    accuracy: float
    nll: float
    ece: float
    fgsm_accuracy: float


def evaluate(learner: Learner, images: Images, labels: Labels, epsilon: float) -> Scores:
    """Score a learner on the test images, and on some of them under attack."""
    probabilities, some = learner.probabilities(images), labels[:ATTACKED]
    attacked = learner.attacked(images[:ATTACKED], some, epsilon)
    return Scores(
        accuracy=accuracy(probabilities, labels),
        nll=nll(probabilities, labels),
        ece=ece(probabilities, labels),
        fgsm_accuracy=accuracy(learner.probabilities(attacked), some),
    )


def accuracy(probabilities: Probabilities, labels: npt.NDArray[np.integer]) -> float:
    """Share of samples whose most probable class is the right one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def nll(probabilities: Probabilities, labels: npt.NDArray[np.integer]) -> float:
    """Mean negative log-likelihood of the right class, in nats; a probability of 0 counts as 1e-12."""
    right = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def ece(probabilities: Probabilities, labels: npt.NDArray[np.integer], bins: int = 15) -> float:
    """Expected calibration error: the mean distance between confidence and accuracy.

    Samples are put into equally wide bins of confidence, the probability of the predicted class; bin b holds
    confidences in (b / bins, (b + 1) / bins]. The distances of the bins are averaged by their sizes.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    distance = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(distance).sum() / len(labels))
