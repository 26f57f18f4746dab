"""HMix and GMix: between Mixup and CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.methods.method import MixingMethod, check_alpha, check_fraction
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, draw_lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.weights import Bell, HollowBox


@dataclass(frozen=True, repr=False)
class HMix(MixingMethod):
    """A box of the partner alone, with both blended around it, so that the sample's own share is lam exactly.

    `ratio=1` is CutMix, whose clipped boxes are made up for outside of them; towards 0 it is Mixup.

    Park et al., "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function Perspective", NeurIPS 2022.

    Attributes:
        alpha: Of the Beta distribution of lam, > 0. Published: 1.
        ratio: Share of 1 - lam that the box takes, before clipping, in (0, 1]. The authors' code has 1 by default,
            their notebook 0.5.
    """

    partial: ClassVar[bool] = True

    alpha: float = 1.0
    ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)
        check_fraction("ratio", self.ratio, "for 0 use Mixup.")

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return draw_lam(rng, self.alpha, perm, self.lam_per), HollowBox(self.ratio)


@dataclass(frozen=True, repr=False)
class GMix(MixingMethod):
    """A Gaussian bell of whichever of both has the smaller share, over the other: a box without edges.

    The label gets the mean of the weights.

    Park et al., "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function Perspective", NeurIPS 2022.

    Attributes:
        alpha: Of the Beta distribution of lam, the nominal share, > 0. Published: 1.
    """

    partial: ClassVar[bool] = True

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return draw_lam(rng, self.alpha, perm, self.lam_per), Bell()
