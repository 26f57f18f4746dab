"""Crops: a box of one image, resized; the label stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixlayers._core.augment.policy import Policy, Size, Step, check_interpolation, check_interval, check_size
from mixlayers._core.checks import check_integer, keep
from mixlayers._core.plan.rectangles import TRIES, draw_shape


@dataclass(frozen=True)
class Crop(Step):
    """Cut a box out of the image and resize it.

    Attributes:
        top, left, height, width: The box, inside the image, in pixels.
        size: (height, width) of the result.
        interpolation: "nearest", "bilinear" or "bicubic"; the last two weigh all pixels that shrink into one.
    """

    top: int
    left: int
    height: int
    width: int
    size: Size
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name, low in (("top", 0), ("left", 0), ("height", 1), ("width", 1)):
            keep(self, **{name: check_integer(name, getattr(self, name), low, 2**31 - 1)})
        keep(self, size=check_size(self.size))
        check_interpolation(self.interpolation)

    def size_after(self, size: Size) -> Size:
        return self.size


@dataclass(frozen=True)
class RandomResizedCrop(Policy):
    """A box of random area and shape, resized: the baseline of ImageNet training.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015. The area is uniform in `scale`, the logarithm of
    width / height uniform in that of `ratio`. If ten draws do not fit, the largest centred box that `ratio` allows.

    Attributes:
        size: Of the result: one side, or (height, width).
        scale: Smallest and largest share of the image's area, in (0, 1].
        ratio: Smallest and largest width / height, > 0.
        interpolation: "nearest", "bilinear" or "bicubic"; the last two weigh all pixels that shrink into one.
    """

    size: int | Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        keep(self, size=check_size(self.size))
        keep(self, scale=check_interval("scale", self.scale, 0.0, 1.0))
        keep(self, ratio=check_interval("ratio", self.ratio, 0.0, math.inf))
        check_interpolation(self.interpolation)

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        rows, columns = check_size(size)
        for _ in range(TRIES):
            width, height = draw_shape(rng, rows * columns, self.scale, self.ratio)
            if 0 < width <= columns and 0 < height <= rows:
                top = int(rng.integers(rows - height + 1))
                left = int(rng.integers(columns - width + 1))
                return (Crop(top, left, height, width, check_size(self.size), self.interpolation),)
        shape = min(max(columns / rows, self.ratio[0]), self.ratio[1])
        width = min(columns, max(1, round(rows * shape)))
        height = min(rows, max(1, round(columns / shape)))
        top, left = (rows - height) // 2, (columns - width) // 2
        return (Crop(top, left, height, width, check_size(self.size), self.interpolation),)
