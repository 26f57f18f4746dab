"""Noisy Feature Mixup: blended features times and plus noise of their own size, which their device makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.blends import Blend, partner_share
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.lam import Lam


@dataclass(frozen=True, eq=False)
class Jitter:
    """A plan brought to one feature's shape: `(1 + multiply * u) * m + add * e`, with m the blend.

    Attributes:
        blend: What is blended first.
        multiply: Factor of u, uniform in (-1, 1) for each element.
        add: Factor of e, standard normal for each element.
        seed: Of both, in [0, 2**31 - 1).
        s: Share of the partner that the label gets.
    """

    blend: Blend
    multiply: float
    add: float
    seed: int
    s: Lam

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Jitter:
        """The same for a feature `(N, *spatial, C)`: noise has no axes of its own."""
        return self


@dataclass(frozen=True)
class Noise:
    """How strong a step's noise is.

    Attributes:
        multiply: Of the multiplicative one.
        add: Of the additive one.
    """

    masked: ClassVar[bool] = False
    labels_stay: ClassVar[bool] = False

    multiply: float
    add: float

    def draw(self, rng: np.random.Generator, feature: Feature) -> Jitter:
        """Draw for a feature."""
        blend = Blend(feature.perm, feature.lam, None, None, partner_share(feature.lam, 1.0))
        return Jitter(blend, self.multiply, self.add, int(rng.integers(2**31 - 1)), blend.s)
