"""Where features are replaced: CutMix's box and PatchUp's blocks, for any number of spatial axes.

A recipe (`Box`, `Blocks`) belongs to the plan; its mask is drawn once the feature's shape is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
        lam: Nominal share of the original sample. The box has sides `int(size * (1 - lam)**(1 / axes))`
            around a uniform centre and is clipped at the border, so its real share is larger.
    """

    lam: Lam

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(np.asarray(self.lam).tobytes())

    def draw(
        self, rng: np.random.Generator, channels: int, spatial: Sequence[int]
    ) -> tuple[Mask, Span | None]:
        """Draw the mask, `(1 or N, 1, *spatial)`, and the same as slices if the whole batch has one box."""
        cut = [size > 2 for size in spatial]
        if not any(cut):
            raise ValueError(
                f"CutMix needs at least one spatial axis longer than 2, got {tuple(spatial)} after (N, C): use Mixup "
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

    gamma: float | None
    block_size: int
    portion: float = 0.0

    def draw(
        self, rng: np.random.Generator, channels: int, spatial: Sequence[int]
    ) -> tuple[Mask, Span | None]:
        """Draw the mask, `(1, channels, *spatial)`."""
        sizes = tuple(min(self.block_size, size) for size in spatial)
        if self.gamma is None:
            rate = rate_for_portion(self.portion, tuple(spatial), sizes)
        else:
            rate = seed_rate(self.gamma, spatial, sizes)
        seeds = bernoulli(rng, rate, channels * math.prod(spatial))
        return dilate(seeds, (channels, *spatial), sizes)[None], None


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


def dilate(seeds: npt.NDArray[np.int64], shape: Sequence[int], sizes: Sequence[int]) -> Mask:
    """Grow each seed to a block: a max filter, as boolean ORs of doubling shifts, one axis at a time.

    Args:
        seeds: Flat positions in an array of `shape`.
        shape: (channels, *spatial).
        sizes: The block's sides, one for each spatial axis, each at most the axis. A block of even side
            reaches one further after its seed than before it.

    Returns:
        bool of `shape`.
    """
    padded = (shape[0], *(f + b - 1 for f, b in zip(shape[1:], sizes, strict=True)))
    place = np.zeros(len(seeds), dtype=np.int64)
    step = 1
    strides = [1] * len(padded)
    rest = seeds
    for axis in reversed(range(len(shape))):
        rest, index = np.divmod(rest, shape[axis]) if axis else (rest, rest)
        strides[axis] = step
        place += (index + (sizes[axis - 1] // 2 if axis else 0)) * step
        step *= padded[axis]
    now, spare = np.zeros(step, dtype=np.bool_), np.zeros(step, dtype=np.bool_)
    now[place] = True
    for axis, size in enumerate(sizes, start=1):
        reach = 1
        while reach < size:
            shift = min(reach, size - reach)
            offset = shift * strides[axis]
            np.logical_or(now[:-offset], now[offset:], out=spare[:-offset])
            now, spare = spare, now
            reach += shift
    return np.ascontiguousarray(now.reshape(padded)[(slice(None), *(slice(f) for f in shape[1:]))])
