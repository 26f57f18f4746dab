"""What the frameworks' sides do with NumPy's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from mixlayers.cli.data import Images, Labels, Probabilities

DECAY: Final = 5e-4
_CHUNK: Final = 500


def chunks(rows: Any) -> list[Any]:
    """In parts that fit the cache."""
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]


def softmax(logits: Iterable[Any]) -> Probabilities:
    """Of logits in chunks, float64."""
    parts = [np.asarray(part, np.float64) for part in logits]
    powers = [np.exp(part - part.max(1, keepdims=True)) for part in parts]
    return np.concatenate([part / part.sum(1, keepdims=True) for part in powers])


def moved(
    images: Images, labels: Labels, epsilon: float, slope: Callable[[Images, Labels], Images]
) -> Images:
    """Every pixel moved by epsilon along the sign of the loss's gradient, as `slope` gives it, within [0, 1]."""
    parts = zip(chunks(images), chunks(labels), strict=True)
    found = [part + epsilon * np.sign(slope(part, own)) for part, own in parts]
    return np.concatenate(found).clip(0.0, 1.0).astype(np.float32)


def last(images: Images) -> Images:
    """(N, C, H, W) with the channels last."""
    return np.moveaxis(images, 1, -1)


def first(images: Any) -> Images:
    """The other way round."""
    return np.moveaxis(np.asarray(images), -1, 1)


def turned(value: Any, axes: tuple[int, ...]) -> Any:
    """A convolution's or linear layer's weight, in another framework's order of axes."""
    return value.transpose(axes if value.ndim == 4 else None) if value.ndim > 1 else value
