"""Random rectangles by area and shape: what is cropped, and what is erased."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixlayers._numbers import check_integer, keep
from mixlayers._policy import Policy, Size, Step, check_interpolation, check_interval

TRIES = 10


def draw_shape(
    rng: np.random.Generator, area: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """The whole sides (long, wide) of a rectangle with uniform area and log-uniform long / wide.

    Args:
        rng: Where to draw from.
        area: What `scale` is a share of.
        scale: Smallest and largest share.
        ratio: Smallest and largest long / wide.
    """
    share = rng.uniform(*scale)
    shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(area * share * shape)), round(math.sqrt(area * share / shape))


def draw_boxes(
    rng: np.random.Generator,
    areas: npt.NDArray[np.float64],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    spatial: Size,
) -> tuple[npt.NDArray[np.int64], ...]:
    """Rectangles smaller than a map in both directions, as `draw_shape` draws them: the first of ten tries that fits.

    Args:
        rng: Where to draw from.
        areas: What `scale` is a share of, for each rectangle, (M,).
        scale, ratio: As of `draw_shape`.
        spatial: The map's sides.

    Returns:
        The indices of those that were found, and their tops, lefts, heights and widths.
    """
    tries = (len(areas), TRIES)
    area = areas[:, None] * rng.uniform(*scale, tries)
    root = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), tries) / 2)
    sides = np.stack([np.rint(np.sqrt(area) * root), np.rint(np.sqrt(area) / root)]).astype(np.int64)
    fits = (sides[0] < spatial[0]) & (sides[1] < spatial[1])
    found = np.flatnonzero(fits.any(1))
    height, width = sides[:, found, fits[found].argmax(1)]
    top, left = rng.integers(spatial[0] - height + 1), rng.integers(spatial[1] - width + 1)
    return found, top, left, height, width


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
