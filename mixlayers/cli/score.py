"""What the demo measures: accuracy, likelihood and calibration before and after temperature scaling, under attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mixlayers._core.labels.metrics import calibration_error
from mixlayers._core.labels.temperature import fit_temperature
from mixlayers.cli.data import DataSet, Probabilities, Split
from mixlayers.cli.sides import Learner

ATTACKED: Final = 1000
"""At most so many test images are attacked; an attack costs three times a test."""

Classes = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Scores:
    """One run's results on the test images; fractions, not per cent.

    Attributes:
        temperature: That the logits are divided by for `scaled_nll` and `scaled_ece`; fitted on validation images.
    """

    accuracy: float
    nll: float
    ece: float
    temperature: float
    scaled_nll: float
    scaled_ece: float
    fgsm_accuracy: float


def evaluate(learner: Learner, data: DataSet, rows: Split) -> Scores:
    """Score a learner on the test images, and on some of them under attack."""
    images, labels = data.take(rows.test), data.labels[rows.test]
    attacked = learner.attacked(images[:ATTACKED], labels[:ATTACKED], data.epsilon)
    return Scores(
        **measured(
            learner.probabilities(images),
            labels,
            learner.probabilities(data.take(rows.validation)),
            data.labels[rows.validation],
        ),
        fgsm_accuracy=accuracy(learner.probabilities(attacked), labels[:ATTACKED]),
    )


def measured(
    probabilities: Probabilities, labels: Classes, validation: Probabilities, their_labels: Classes
) -> dict[str, float]:
    """All of `Scores` but the attack.

    Args:
        probabilities, labels: Of the test images.
        validation, their_labels: Of the validation images; they choose the temperature and nothing else.
    """
    temperature = fit_temperature(_logs(validation), their_labels)
    scaled = rescaled(probabilities, temperature)
    return {
        "accuracy": accuracy(probabilities, labels),
        "nll": nll(probabilities, labels),
        "ece": ece(probabilities, labels),
        "temperature": temperature,
        "scaled_nll": nll(scaled, labels),
        "scaled_ece": ece(scaled, labels),
    }


def rescaled(probabilities: Probabilities, temperature: float) -> Probabilities:
    """What the probabilities are if the logits are divided by the temperature."""
    logs = _logs(probabilities) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    scaled: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def _logs(probabilities: Probabilities) -> Probabilities:
    """Logits that have these probabilities; of a probability that is 0 in float64, of the smallest that is not."""
    logits: Probabilities = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return logits


def accuracy(probabilities: Probabilities, labels: Classes) -> float:
    """Share of samples whose most probable class is the right one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def nll(probabilities: Probabilities, labels: Classes) -> float:
    """Mean negative log-likelihood of the right class, in nats; a probability of 0 counts as 1e-12."""
    right = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def ece(probabilities: Probabilities, labels: Classes) -> float:
    """Expected calibration error, in 15 bins of confidence."""
    return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
