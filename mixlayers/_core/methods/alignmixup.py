"""AlignMixup: maps that are aligned before they are blended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.checks import check_integer, keep
from mixlayers._core.methods.mixup import ManifoldMixup
from mixlayers._core.plan.alignments import Aligned
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import INPUT, Recipe


@dataclass(frozen=True, repr=False)
class AlignMixup(ManifoldMixup):
    """Blend feature maps after the cells of one are moved to the cells of the other that they are most like.

    Published at the input, where it is Mixup, and at the last map before the pooling, one half of the steps each:
    `layers=["input", "layer4"]`. A fair coin says which of the two is moved; the label is Mixup's.

    Venkataramanan et al., "AlignMixup: Improving Representations by Interpolating Aligned Features", CVPR 2022.

    Attributes:
        alpha: Of the Beta distribution of lam, > 0. Published: 2.
        eps: Regularisation of the transport between the maps, > 0. Published: 0.1.
        rounds: Sinkhorn's rounds, >= 1. Published: at most 100, ended when they change little; here always so many.
        fold: As of Mixup.
    """

    keeps_own: ClassVar[bool] = False

    eps: float = 0.1
    rounds: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.eps < float("inf"):
            raise ValueError(f"eps must be > 0 and finite, got {self.eps}: 0.1 is published.")
        keep(self, rounds=check_integer("rounds", self.rounds, 1, 10**6))

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        lam, _ = super().draw(rng, perm, place)
        return lam, None if place == INPUT else Aligned(self.eps, self.rounds)
