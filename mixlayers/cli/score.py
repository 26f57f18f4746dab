"""What the demo measures: accuracy, negative log-likelihood, calibration, and accuracy under attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTACKED: Final = 1000
"""At most so many test images are attacked; an attack costs three times a test."""

_CHUNK: Final = 500

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One run's results on the test images; fractions, not per cent."""

    accuracy: float
    nll: float
    ece: float
    fgsm_accuracy: float


def evaluate(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Scores:
    """Score a model in eval mode; the model's mode is put back."""
    was_training = model.training
    model.eval()
    try:
        probabilities = predict(model, images)
        y = labels.numpy()
        attacked = fgsm(model, images[:ATTACKED], labels[:ATTACKED], epsilon)
        return Scores(
            accuracy=accuracy(probabilities, y),
            nll=nll(probabilities, y),
            ece=ece(probabilities, y),
            fgsm_accuracy=accuracy(predict(model, attacked), y[:ATTACKED]),
        )
    finally:
        model.train(was_training)


def predict(model: Callable[[Tensor], Tensor], images: Tensor) -> Probabilities:
    """Class probabilities (N, K), in chunks that fit the cache."""
    with torch.no_grad():
        return np.concatenate(
            [model(chunk).double().softmax(dim=1).numpy() for chunk in torch.split(images, _CHUNK)]
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


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Move every pixel by epsilon in the direction that raises the loss, within [0, 1].

    Goodfellow et al., "Explaining and Harnessing Adversarial Examples", ICLR 2015.
    """
    moved = []
    for x, y in zip(torch.split(images, _CHUNK), torch.split(labels, _CHUNK), strict=True):
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        moved.append((x.detach() + epsilon * gradient.sign()).clamp(0.0, 1.0))
    return torch.cat(moved)
