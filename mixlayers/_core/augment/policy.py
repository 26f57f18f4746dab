"""Augmentation policies: frozen descriptions, each drawing the steps for one image."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mixlayers._core.checks import check_integer
from mixlayers._core.plan.streams import AUGMENT, stream

Size = tuple[int, int]
"""Of an image: (height, width). Pillow's own `image.size` is the other way round."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


class Step:
    """One thing that is done to one image; it holds all that was drawn for it, so it can be kept and replayed."""

    def size_after(self, size: Size) -> Size:
        """The size of the image that this step returns."""
        return size


class Policy:
    """An augmentation policy: draws the steps for one image."""

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        """Draw the steps for one image.

        Args:
            rng: Where to draw from; nothing else is read.
            size: The image's (height, width).
        """
        raise NotImplementedError

    def plan(self, size: Size, *, index: int, epoch: int = 0, seed: int = 0) -> tuple[Step, ...]:
        """Draw the steps for one image of a data set: a pure function of the arguments.

        Args:
            size: The image's (height, width).
            index: What tells the image from others of the epoch, >= 0.
            epoch: The epoch's number, >= 0.
            seed: The run's seed, >= 0.

        Raises:
            ValueError: If a number is negative or does not fit in 64 bits.
        """
        return self.draw(image_stream(seed, epoch, index), size)


def image_stream(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random stream of one image in one epoch; no rank and no worker has a part in it.

    Raises:
        ValueError: If a number is negative or does not fit in 64 bits.
    """
    numbers = {"seed": seed, "epoch": epoch, "index": index}
    for name, value in numbers.items():
        numbers[name] = check_integer(name, value, 0, 2**64 - 1)
    return stream(numbers["seed"], rank=numbers["index"], step=numbers["epoch"], purpose=AUGMENT)


def check_probability(p: float) -> float:
    """The value as a Python float in [0, 1]."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be in [0, 1], got {p}: it is the probability that an image is changed.")
    return float(p)


def check_interval(name: str, value: Iterable[float], low: float, high: float) -> tuple[float, float]:
    """The value as a pair of floats, low <= smallest <= largest <= high, smallest > 0."""
    pair = tuple(float(number) for number in value)
    if len(pair) != 2 or not 0.0 < pair[0] <= pair[1] or not low <= pair[0] or not pair[1] <= high:
        raise ValueError(
            f"{name} must be two numbers (smallest, largest), positive, in order and in [{low:g}, {high:g}], "
            f"got {pair if len(pair) != 1 else pair[0]}."
        )
    return pair[0], pair[1]


def check_interpolation(interpolation: str) -> None:
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be one of {', '.join(map(repr, INTERPOLATIONS))}, got {interpolation!r}."
        )


def check_size(size: int | Iterable[int]) -> Size:
    """A side, or (height, width), as (height, width).

    Raises:
        TypeError: If a side is no integer.
        ValueError: If there are not two, or one is smaller than 1.
    """
    sides = tuple(size) if isinstance(size, Iterable) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"size must be one side or (height, width), got {sides}.")
    height, width = (
        check_integer("size", side, 1, 2**31 - 1, "an image has a pixel at least.") for side in sides
    )
    return height, width
