"""Test images as bad cameras see them: three of CIFAR-10-C's kinds (Hendrycks and Dietterich, ICLR 2019).

Blur and contrast are operations of `mixlayers.augment`; noise is NumPy's. Nobody trained on any of them.
"""

from typing import Any, Final

import numpy as np

from evidence import Job, Run
from evidence.cifar.networks import build
from evidence.cifar.training import chances, rows_of, scored, trained
from mixlayers.augment import Operation, apply
from mixlayers.cli.score import accuracy

SMOOTH: Final = Operation("Sharpness", -1.0)
"""A blur over 3x3 pixels."""

KINDS: Final[dict[str, float | list[Operation]]] = {
    "noise 0.04": 0.04,
    "noise 0.08": 0.08,
    "blur x2": [SMOOTH] * 2,
    "blur x4": [SMOOTH] * 4,
    "contrast x0.4": [Operation("Contrast", -0.6)],
    "contrast x0.2": [Operation("Contrast", -0.8)],
}
"""Noise: its standard deviation, of images in [0, 1]; else what is done to the image."""


def corrupted(images: np.ndarray, how: float | list[Operation], seed: int) -> np.ndarray:
    """uint8 images (N, 3, 32, 32) made worse; float32 in [0, 1], in the same steps of 1 / 255."""
    if isinstance(how, float):
        noise = np.random.default_rng([seed, 4]).normal(0.0, 255.0 * how, images.shape)
        worse = (images + noise).round().clip(0.0, 255.0)
    else:
        worse = np.stack([apply(image, how) for image in images.transpose(0, 2, 3, 1)]).transpose(0, 3, 1, 2)
    return worse.astype(np.float32) / np.float32(255.0)


def work(job: Job, settings: Job) -> Run:
    """Train on clean images; score on clean ones, and count right answers on the first `corrupted` made worse."""
    asked: dict[str, Any] = {**settings, **job}
    data, rows = rows_of(asked)
    network = build(asked["network"], asked["width"], asked["stages"], asked["seed"])
    network = trained(network, asked, data, rows.train)
    found = scored(network, data, rows)
    first = rows.test[: asked["corrupted"]]
    for name, how in KINDS.items():
        worse = corrupted(data.images[first], how, asked["seed"])
        found[name] = accuracy(chances(network, worse), data.labels[first])
    return found
