"""Weights at each point instead of a mask: HMix's box with a remainder around it, GMix's bell, FMix's soft edges.

A recipe belongs to the plan; its weights are drawn once the feature's shape is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mixlayers._core.plan.blends import Weigh
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.masks import Box, Mask, Span

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HollowBox:
    """HMix: a box of the partner alone, and both blended outside of it, so that all in all lam is the sample's own.

    Attributes:
        ratio: How much of the partner's share the box takes, in (0, 1]; the rest is blended in outside.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    ratio: float

    def draw(self, rng: np.random.Generator, feature: Feature) -> Weigh:
        """Draw for a feature."""
        lam = feature.lam
        mask, _ = Box(1.0 - (1.0 - lam) * self.ratio).draw(rng, feature.channels, feature.spatial)
        around = 1.0 - mask.reshape(len(mask), -1).mean(1)
        own = np.minimum(np.asarray(lam) / np.maximum(around, 1e-12), 1.0)
        keep = np.where(mask, 0.0, own.reshape(-1, *(1,) * (mask.ndim - 1))).astype(np.float32)
        return Weigh(feature.perm, keep, 1.0 - lam)


@dataclass(frozen=True)
class Bell:
    """GMix: a Gaussian bell of whichever of the two has the smaller share, around a uniform centre."""

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    def draw(self, rng: np.random.Generator, feature: Feature) -> Weigh:
        """Draw for a feature."""
        lam, spatial = feature.lam, feature.spatial
        if not spatial:
            raise ValueError(
                "GMix needs a feature with spatial axes, got (N, C): use Mixup or ManifoldMixup, which need none."
            )
        lams = np.atleast_1d(np.asarray(lam, dtype=np.float64))
        area = np.maximum(np.minimum(lams, 1.0 - lams), 1e-12) * math.prod(spatial)
        squares = np.zeros((len(lams), *spatial))
        for axis, size in enumerate(spatial):
            away = np.arange(size) - rng.integers(size, size=(len(lams), 1))
            squares += (away**2.0).reshape(
                -1, *(size if axis == other else 1 for other in range(len(spatial)))
            )
        bell = np.exp(-math.pi * squares / (area ** (2.0 / len(spatial))).reshape(-1, *(1,) * len(spatial)))
        own = (lams < 0.5).reshape(-1, *(1,) * len(spatial))
        return _weigh(feature.perm, np.where(own, bell, 1.0 - bell)[:, None], lam)


@dataclass(frozen=True)
class FourierField:
    """FMix: a random smooth field, of whose cells the highest keep the sample and the others get the partner.

    Attributes:
        lam: Nominal share of the original sample.
        decay: The exponent by which high frequencies are weaker, > 0.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    lam: float
    decay: float

    def draw(
        self, rng: np.random.Generator, channels: int, spatial: Sequence[int]
    ) -> tuple[Mask, Span | None]:
        """Draw the mask, `(1, 1, *spatial)`."""
        rank, kept = _ranked(rng, self.lam, self.decay, spatial)
        return (rank >= kept).reshape(1, 1, *spatial), None


@dataclass(frozen=True)
class SoftField:
    """FMix with soft edges: near the threshold the weight of a cell falls linearly with its rank in the field.

    Attributes:
        decay: As of FourierField.
        max_soft: Share of the cells on each side of the threshold that are blended, in (0, 0.5]; less where lam or
            1 - lam is.
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    decay: float
    max_soft: float

    def draw(self, rng: np.random.Generator, feature: Feature) -> Weigh:
        """Draw for a feature."""
        own, spatial = float(feature.lam), feature.spatial
        rank, kept = _ranked(rng, own, self.decay, spatial)
        soft = int(min(self.max_soft, own, 1.0 - own) * rank.size)
        ramp = (kept + soft - 1 - rank) / max(2 * soft - 1, 1) if soft else (rank < kept) * 1.0
        return _weigh(feature.perm, np.clip(ramp, 0.0, 1.0).reshape(1, 1, *spatial), feature.lam)


def _weigh(perm: npt.NDArray[np.int64], keep: npt.NDArray[np.float64], lam: Lam) -> Weigh:
    """Weights with the share that they really have."""
    shares = 1.0 - keep.reshape(len(keep), -1).mean(1)
    s = shares.astype(np.float32) if isinstance(lam, np.ndarray) else float(shares[0])
    return Weigh(perm, keep.astype(np.float32), s)


def _ranked(
    rng: np.random.Generator, lam: float, decay: float, spatial: Sequence[int]
) -> tuple[npt.NDArray[np.int64], int]:
    """Each cell's rank in a random field, the highest first, (cells,); and how many cells the sample keeps."""
    if not spatial:
        raise ValueError(
            "FMix needs a feature with spatial axes, got (N, C): use Mixup or ManifoldMixup, which need none."
        )
    axes = [np.fft.fftfreq(size) for size in spatial[:-1]] + [np.fft.rfftfreq(spatial[-1])]
    frequency = np.sqrt(sum(along**2 for along in np.meshgrid(*axes, indexing="ij")))
    loudness = np.maximum(frequency, 1.0 / max(spatial)) ** -decay
    real, imaginary = rng.normal(size=(2, *loudness.shape))
    field = np.fft.irfftn((real + 1j * imaginary) * loudness, s=spatial, axes=tuple(range(len(spatial))))
    rank = np.empty(field.size, dtype=np.int64)
    rank[np.argsort(-field.ravel(), kind="stable")] = np.arange(field.size)
    return rank, int((math.ceil if rng.random() < 0.5 else math.floor)(lam * field.size))
