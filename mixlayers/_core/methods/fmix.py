"""FMix: a mask of random, smooth shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.methods.method import MixingMethod, check_alpha, check_one_for_all
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, draw_lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.weights import FourierField, SoftField


@dataclass(frozen=True, repr=False)
class FMix(MixingMethod):
    """Replace a part of any shape by the partner's: where a random field of low frequencies is low.

    The field has as many axes as the input has space, so series and volumes are mixed too. The label gets the share
    that was really replaced.

    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", arXiv:2002.12047.

    Attributes:
        alpha: Of the Beta distribution of the sample's own share, > 0. Published: 1.
        decay: The exponent by which high frequencies are weaker, > 0: larger ones make fewer, larger patches.
            Published: 3.
        max_soft: Share of the cells on each side of the edge that are blended, in [0, 0.5]. Published: 0.
    """

    partial: ClassVar[bool] = True

    alpha: float = 1.0
    decay: float = 3.0
    max_soft: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)
        check_one_for_all(self, "mask")
        if not 0.0 < self.decay < 100.0:
            raise ValueError(f"decay must be in (0, 100), got {self.decay}: 3 is published.")
        if not 0.0 <= self.max_soft <= 0.5:
            raise ValueError(
                f"max_soft must be in [0, 0.5], got {self.max_soft}: 0 has hard edges, as published."
            )

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        lam = float(draw_lam(rng, self.alpha, perm, "batch"))
        if self.max_soft:
            return lam, SoftField(self.decay, self.max_soft)
        return 0.0, FourierField(lam, self.decay)
