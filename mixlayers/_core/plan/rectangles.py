"""Random rectangles by area and shape: the law of crops and of erased boxes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

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
    spatial: tuple[int, int],
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
