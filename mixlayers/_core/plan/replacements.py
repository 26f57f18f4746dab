"""Replacement by a constant or by noise, not by a partner: DropBlock's blocks and erased boxes.

A recipe (`DroppedBlocks`, `ErasedBoxes`) belongs to the plan; what it replaces is drawn once the feature's shape is
known. Labels stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.masks import Mask, bernoulli, centred, dilate, seed_rate
from mixlayers._core.plan.rectangles import draw_boxes

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Replace:
    """A plan brought to one feature's shape: the fill under the mask, `scale * x` elsewhere.

    Attributes:
        mask: bool, broadcastable to the feature with its batch axis first.
        fill: float32, the same.
        scale: Factor of what is kept.
    """

    s: ClassVar[float] = 0.0  # the label's share of anything else

    mask: Mask
    fill: npt.NDArray[np.float32]
    scale: float = 1.0

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Replace:
        """The same replacement for a feature `(N, *spatial, C)`."""
        mask = np.ascontiguousarray(np.moveaxis(self.mask, 1, -1))
        return Replace(mask, np.moveaxis(self.fill, 1, -1), self.scale)


@dataclass(frozen=True)
class DroppedBlocks:
    """DropBlock: random blocks of zeros inside the map, drawn for each sample.

    Attributes:
        drop: The paper's 1 - keep_prob, in (0, 1).
        block_size: Side of a block; clipped to the map.
        couple_channels: Whether all channels of a sample drop the same blocks.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = True

    drop: float
    block_size: int
    couple_channels: bool = False

    def draw(self, rng: np.random.Generator, feature: Feature) -> Replace:
        """Draw for a feature."""
        size, channels, spatial = feature.shape[0], feature.channels, feature.spatial
        if self.couple_channels and not spatial:
            raise ValueError(
                "couple_channels=True drops whole samples of a feature of shape (N, C): leave it out, or choose a "
                "layer whose output has spatial axes."
            )
        sizes = tuple(min(self.block_size, side) for side in spatial)
        planes = 1 if self.couple_channels else channels
        rate = seed_rate(self.drop, spatial, sizes)
        free = (size * planes, *(side - block + 1 for side, block in zip(spatial, sizes, strict=True)))
        plane, *first = np.unravel_index(bernoulli(rng, rate, math.prod(free)), free)
        seeds = (start + (block - 1) // 2 for start, block in zip(first, sizes, strict=True))
        flat = np.ravel_multi_index((plane, *seeds), (size * planes, *spatial))
        mask = dilate(flat, (size * planes, *spatial), sizes, inside=True).reshape(size, planes, *spatial)
        kept = mask.size - int(np.count_nonzero(mask))
        nothing = np.zeros((1,) * mask.ndim, dtype=np.float32)
        return Replace(mask, nothing, mask.size / max(kept, 1))


@dataclass(frozen=True)
class ErasedBoxes:
    """RandomErasing's or Cutout's boxes, drawn for each sample.

    Attributes:
        p, scale, ratio, value, count: As of RandomErasing.
        size: The side of Cutout's squares, instead of scale and ratio.
        quantiles: Whether noise is one of 2**16 equally likely normal quantiles, as in every new plan; False: as plans
            drew it that were written before there were any.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = True

    p: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    value: tuple[float, ...] | str
    count: tuple[int, int]
    size: int | None = None
    quantiles: bool = False

    def draw(self, rng: np.random.Generator, feature: Feature) -> Replace:
        """Draw for a feature."""
        size, channels, spatial = feature.shape[0], feature.channels, feature.spatial
        if len(spatial) != 2:
            raise ValueError(
                f"Erasing needs images or maps (N, C, H, W), got {len(spatial)} spatial axes: use DropBlock, which "
                "takes any number."
            )
        owner, *box = self._boxes(rng, size, (spatial[0], spatial[1]))
        mask = np.zeros((size, 1, *spatial), dtype=np.bool_)
        boxes = [
            (i, slice(None), slice(t, t + h), slice(x, x + w))
            for i, t, x, h, w in zip(*(numbers.tolist() for numbers in (owner, *box)), strict=True)
        ]
        for at in boxes:
            mask[at] = True
        if not isinstance(self.value, str):
            return Replace(mask, constant_fill(self.value, channels)[None, :, None, None].astype(np.float32))
        fill = np.zeros((size, channels, *spatial), dtype=np.float32)
        for at, noise in zip(boxes, self._noises(rng, channels, *box[2:]), strict=True):
            fill[at] = noise
        return Replace(mask, fill)

    def _noises(
        self, rng: np.random.Generator, channels: int, height: Whole, width: Whole
    ) -> Iterator[npt.NDArray[np.float32]]:
        """What fills each box."""
        shapes = [(channels, h, w) for h, w in zip(height.tolist(), width.tolist(), strict=True)]
        if self.value == "rand" or not self.quantiles:
            for shape in shapes:
                yield rng.standard_normal((channels, 1, 1) if self.value == "rand" else shape, np.float32)
            return
        # all numbers at once, since small boxes are many; looked up box by box, while they are in the cache
        quantiles, start = normal_quantiles(), 0
        drawn = rng.integers(2**16, size=sum(map(math.prod, shapes)), dtype=np.uint16)
        for shape in shapes:
            stop = start + math.prod(shape)
            yield quantiles.take(drawn[start:stop]).reshape(shape)
            start = stop

    def _boxes(self, rng: np.random.Generator, size: int, spatial: tuple[int, int]) -> tuple[Whole, ...]:
        """Owners, tops, lefts, heights and widths of all boxes of a batch, (M,) each."""
        fewest, most = self.count
        count = np.where(rng.random(size) < self.p, rng.integers(fewest, most + 1, size), 0)
        owner = np.repeat(np.arange(size), count)
        if self.size is None:
            kept, *box = draw_boxes(rng, math.prod(spatial) / count[owner], self.scale, self.ratio, spatial)
            return owner[kept], *box
        half = np.full(len(owner), self.size // 2)
        (top, bottom), (left, right) = (centred(rng, half, side) for side in spatial)
        return owner, top, left, bottom - top, right - left


@cache
def normal_quantiles() -> npt.NDArray[np.float32]:
    """The standard normal law as 2**16 equally likely numbers, up to 4.3: noise for a look-up a number."""
    half = [NormalDist().inv_cdf((number + 0.5) / 2**16) for number in range(2**15)]
    return np.array([*half, *(-value for value in reversed(half))], dtype=np.float32)


def constant_fill(value: tuple[float, ...], channels: int) -> npt.NDArray[Any]:
    """The numbers that replace, one for each channel or one for all, (C,) or (1,).

    Raises:
        ValueError: If there is another number of them.
    """
    if len(value) not in (1, channels):
        raise ValueError(f"value must have one number, or {channels}, one a channel; got {value}.")
    return np.asarray(value)
