"""Mixup at the input, and at hidden layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from mixlayers._core.methods.method import MixingMethod, check_alpha
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, draw_lam
from mixlayers._core.plan.plan import Recipe


@dataclass(frozen=True, repr=False)
class Mixup(MixingMethod):
    """Mixup of the input: `lam * x + (1 - lam) * x[perm]`, lam ~ Beta(alpha, alpha).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Attributes:
        alpha: Of the Beta distribution, > 0. Published: 1 on CIFAR, 0.2 on ImageNet.
        fold: Whether lam is the larger one of lam and 1 - lam, so that each sample keeps at least half of itself.
    """

    alpha: float = 1.0
    fold: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return draw_lam(rng, self.alpha, perm, self.lam_per, fold=self.fold), None


@dataclass(frozen=True, repr=False)
class ManifoldMixup(Mixup):
    """Mixup at one of several layers, drawn uniformly each step.

    Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", ICML 2019.

    Attributes:
        alpha: Of the Beta distribution, > 0. Published: 2 on CIFAR and SVHN, 0.2 on Tiny-ImageNet.
        fold: As of Mixup. Published: for text (TMix).
    """

    hidden_layers: ClassVar[bool] = True

    alpha: float = 2.0
