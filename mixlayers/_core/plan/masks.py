"""Masks: CutMix's box and PatchUp's blocks, for any number of spatial axes.

A recipe (`Box`, `Blocks`) belongs to the plan; its mask is drawn once the feature's shape is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.lam import Lam

Mask = npt.NDArray[np.bool_]
Span = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Box:
    """CutMix: one box, all channels.

    An axis of 1 or 2 has no place for the half of a box on both sides of a centre: it is left whole, as if it were
    not there. A map of shape (1, T) is cut along T alone.

    Attributes:
        lam: Nominal share of the original sample. The box has sides `2 * (int(size * (1 - lam)**(1 / axes)) // 2)`
            around a uniform centre and is clipped at the border, so its real share is larger.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    lam: Lam

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(np.asarray(self.lam).tobytes())

    def draw(
        self, rng: np.random.Generator, channels: int, spatial: Sequence[int]
    ) -> tuple[Mask, Span | None]:
        """Draw the mask, `(1 or N, 1, *spatial)`, and the same as slices if the whole batch has one box."""
        cut = self._cut(spatial)
        if not any(cut):
            raise ValueError(
                f"a box needs at least one spatial axis longer than 2, got {tuple(spatial)} after (N, C): use Mixup "
                "or ManifoldMixup, or PatchUp at a hidden layer, which replaces single features."
            )
        lam = np.atleast_1d(np.asarray(self.lam, dtype=np.float64))
        mask = np.ones((len(lam), 1, *spatial), dtype=np.bool_)
        span = []
        for axis, size in enumerate(spatial):
            if not cut[axis]:
                span.append(slice(0, size))
                continue
            half = (size * (1.0 - lam) ** (1.0 / sum(cut))).astype(np.int64) // 2
            start, stop = centred(rng, half, size)
            position = np.arange(size)
            inside = (position >= start[:, None]) & (position < stop[:, None])
            mask &= inside.reshape(len(lam), 1, *(size if a == axis else 1 for a in range(len(spatial))))
            span.append(slice(int(start[0]), int(stop[0])))
        return mask, None if isinstance(self.lam, np.ndarray) else (slice(None), slice(None), *span)

    def _cut(self, spatial: Sequence[int]) -> list[bool]:
        """Which axes are cut; the others are left whole."""
        return [size > 2 for size in spatial]


@dataclass(frozen=True, eq=False)
class BoxAlong(Box):
    """CutMix along some of the axes, whole along the others.

    Attributes:
        axes: Which, counted among the spatial ones; -1 is the last.
    """

    axes: tuple[int, ...]

    def _cut(self, spatial: Sequence[int]) -> list[bool]:
        count = len(spatial)
        if not all(-count <= axis < count for axis in self.axes):
            raise ValueError(
                f"axes are counted among the {count} spatial ones, got axes={self.axes}: of spectrograms (N, C, F, T) "
                "0 is frequency and 1, or -1, is time."
            )
        chosen = {axis % count for axis in self.axes}
        return [size > 2 and axis in chosen for axis, size in enumerate(spatial)]


def centred(
    rng: np.random.Generator, half: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and stop of spans of `2 * half` around uniform centres, clipped to [0, size): CutMix's and Cutout's."""
    centre = rng.integers(0, size, size=len(half))
    return np.maximum(centre - half, 0), np.minimum(centre + half, size)


@dataclass(frozen=True)
class Blocks:
    """PatchUp: blocks around random seeds, drawn for each channel, the same for the whole batch.

    Attributes:
        gamma: PatchUp's gamma, in (0, 1]; the seeds' rate follows from it as in DropBlock, side by side
            for maps that are not square. None: `portion` decides.
        block_size: Side of a block; clipped to the map.
        portion: Expected share of replaced features, in (0, 1); the seeds' rate is solved for it.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    gamma: float | None
    block_size: int
    portion: float = 0.0

    def draw(
        self, rng: np.random.Generator, channels: int, spatial: Sequence[int]
    ) -> tuple[Mask, Span | None]:
        """Draw the mask, `(1, channels, *spatial)`."""
        rate, sizes = self._rate(spatial)
        seeds = bernoulli(rng, rate, channels * math.prod(spatial))
        return dilate(seeds, (channels, *spatial), sizes)[None], None

    def covers(self, spatial: Sequence[int]) -> float:
        """The expected share of a map under the mask."""
        rate, sizes = self._rate(spatial)
        return expected_portion(min(rate, 1.0), spatial, sizes)

    def _rate(self, spatial: Sequence[int]) -> tuple[float, tuple[int, ...]]:
        """The seeds' rate, and the block's sides."""
        sizes = tuple(min(self.block_size, size) for size in spatial)
        if self.gamma is None:
            return rate_for_portion(self.portion, tuple(spatial), sizes), sizes
        return seed_rate(self.gamma, spatial, sizes), sizes


def seed_rate(gamma: float, spatial: Sequence[int], sizes: Sequence[int]) -> float:
    """The seeds' Bernoulli rate: gamma * prod(f / (b * (f - b + 1))) over the spatial axes."""
    return gamma * math.prod(f / (b * (f - b + 1)) for f, b in zip(spatial, sizes, strict=True))


def expected_portion(rate: float, spatial: Sequence[int], sizes: Sequence[int]) -> float:
    """The expected share of features under the mask when seeds fall with `rate`."""
    covering, often = _coverings(tuple(spatial), tuple(sizes))
    return float(1.0 - (often * (1.0 - rate) ** covering).sum())


@lru_cache(maxsize=256)
def _coverings(
    spatial: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """By how many seeds' blocks a point may be covered, each number once, and the share of such points."""
    covering: npt.NDArray[Any] = np.ones(1, dtype=np.int64)
    often: npt.NDArray[Any] = np.ones(1)
    for f, b in zip(spatial, sizes, strict=True):
        position = np.arange(f)
        seen_from = np.minimum(position + (b - 1) // 2, f - 1) - np.maximum(position - b // 2, 0) + 1
        along, points = np.unique(seen_from, return_counts=True)
        products = np.multiply.outer(covering, along).ravel()
        covering, place = np.unique(products, return_inverse=True)
        often = np.bincount(place.ravel(), np.multiply.outer(often, points / f).ravel())
    return covering, often


@lru_cache(maxsize=256)
def rate_for_portion(portion: float, spatial: tuple[int, ...], sizes: tuple[int, ...]) -> float:
    """The seeds' rate at which `portion` of the features is expected under the mask (bisection)."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_portion(middle, spatial, sizes) < portion else (low, middle)
    return (low + high) / 2


def bernoulli(rng: np.random.Generator, rate: float, size: int) -> npt.NDArray[np.int64]:
    """The positions of the ones in a Bernoulli field, drawn as geometric gaps between them."""
    if not 0.0 < rate < 1.0:
        return np.arange(size if rate >= 1.0 else 0)
    scale = -1.0 / math.log1p(-rate)
    guess = int(size * rate + 6 * math.sqrt(size * rate)) + 8
    last, found = -1, []
    while last < size:
        gaps = np.minimum(rng.standard_exponential(guess) * scale, size)
        positions = last + np.cumsum(gaps.astype(np.int64) + 1)
        found.append(positions)
        last = int(positions[-1])
    seeds = np.concatenate(found) if len(found) > 1 else found[0]
    return seeds[: np.searchsorted(seeds, size)]


def dilate(
    seeds: npt.NDArray[np.int64], shape: Sequence[int], sizes: Sequence[int], *, inside: bool = False
) -> Mask:
    """Grow each seed to a block: a max filter, as ORs of doubling shifts of a set of bits, one axis at a time.

    Args:
        seeds: Flat positions in an array of `shape`.
        shape: (channels, *spatial).
        sizes: The block's sides, one for each spatial axis, each at most the axis. A block of even side
            reaches one further after its seed than before it.
        inside: Whether no block reaches over a border, which spares the room beside the map.

    Returns:
        bool of `shape`.
    """
    padded = (
        tuple(shape) if inside else (shape[0], *(f + b - 1 for f, b in zip(shape[1:], sizes, strict=True)))
    )
    ends = np.unravel_index(seeds, tuple(shape))
    ends = (ends[0], *(index + size // 2 for index, size in zip(ends[1:], sizes, strict=True)))
    bits = _Bits(np.ravel_multi_index(ends, padded), math.prod(padded))
    for axis, size in enumerate(sizes, start=1):
        stride, reach = math.prod(padded[axis + 1 :]), 1
        while reach < size:
            shift = min(reach, size - reach)
            bits.also_before(shift * stride)
            reach += shift
    unpadded = (slice(None), *(slice(f) for f in shape[1:]))
    return np.ascontiguousarray(bits.read().reshape(padded)[unpadded])


class _Bits:
    """A set of positions in [0, size), a bit each: an eighth of what flags would move through memory."""

    def __init__(self, positions: npt.NDArray[np.int64], size: int) -> None:
        self._size = size
        self._words = np.zeros(-(-size // 64), dtype="<u8")
        np.bitwise_or.at(self._words, positions >> 6, np.uint64(1) << (positions & 63).astype(np.uint64))

    def also_before(self, distance: int) -> None:
        """Add, for each position, the one so far before it."""
        words, bits = divmod(distance, 64)
        moved = self._words[words:] >> np.uint64(bits)
        if bits:
            moved[:-1] |= self._words[words + 1 :] << np.uint64(64 - bits)
        self._words[: len(moved)] |= moved

    def read(self) -> Mask:
        """The set as flags, (size,)."""
        return np.unpackbits(self._words.view(np.uint8), count=self._size, bitorder="little").view(np.bool_)
