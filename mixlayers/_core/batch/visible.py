"""Boxes beside a region that was pasted over an image: what of them is still to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.plan.masks import Mask
from mixlayers._core.plan.plan import Blend, MixPlan

Boxes = npt.NDArray[Any]
"""(M, 4), each its left, top, right and lower edge in pixels: x1, y1, x2, y2."""


def regions(shape: Sequence[int], plan: MixPlan, channel_dim: int) -> list[Boxes]:
    """The edges (4,) of what a plan of CutMix pastes over each image; all 0 where it is nothing.

    Raises:
        ValueError: If the images are none of two axes.
    """
    how = plan.blend(tuple(shape), channel_dim)
    if len(shape) != 4 or not isinstance(how, Blend) or how.mask is None:
        raise ValueError(f"CutMix of boxes needs images (N, C, H, W) or (N, H, W, C), got {tuple(shape)}.")
    found = [_edges(mask) for mask in how.mask.squeeze(channel_dim)]
    return found if len(found) == shape[0] else found * shape[0]


def _edges(mask: Mask) -> Boxes:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.int64)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def inside(boxes: Boxes, region: Boxes) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """What lies in the region: each box cut to it, (M, 4), and the share of the box's area that this is, (M,)."""
    part = np.concatenate([np.maximum(boxes[:, :2], region[:2]), np.minimum(boxes[:, 2:], region[2:])], 1)
    return part, _share(_area(part), _area(boxes))


def outside(boxes: Boxes, region: Boxes) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """What the region leaves: the box that bounds it, (M, 4), and the share of the box's area that it is, (M,).

    A region shortens a box where it reaches from one side to the opposite one; else parts on both sides of it, or
    around it, are left, and what bounds them is the box as it was.
    """
    part, area = inside(boxes, region)[0], _area(boxes)
    left = boxes.copy()
    for one, other in ((0, 1), (1, 0)):
        across = (region[other] <= boxes[:, other]) & (boxes[:, other + 2] <= region[other + 2])
        begins = across & (region[one] <= boxes[:, one])
        ends = across & (boxes[:, one + 2] <= region[one + 2])
        left[begins, one] = np.maximum(boxes[begins, one], region[one + 2])
        left[ends, one + 2] = np.minimum(boxes[ends, one + 2], region[one])
    return left, _share(area - _area(part), area)


def _area(boxes: Boxes) -> npt.NDArray[np.float64]:
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0.0)
    area: npt.NDArray[np.float64] = sides.prod(1)
    return area


def _share(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Part / whole; a box without area has no share to be seen."""
    share: npt.NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0.0)
    return share
