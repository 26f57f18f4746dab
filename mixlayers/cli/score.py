"""What the demo measures: accuracy, negative log-likelihood, calibration, and accuracy under attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mixlayers._core.labels.metrics import calibration_error
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.sides import Learner

ATTACKED: Final = 1000
"""At most so many test images are attacked; an attack costs three times a test."""


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


def ece(probabilities: Probabilities, labels: npt.NDArray[np.integer]) -> float:
    """Expected calibration error, in 15 bins of confidence."""
    return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
