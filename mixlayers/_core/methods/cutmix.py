"""CutMix: a box of the partner's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.methods.method import MixingMethod, check_alpha
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, draw_lam
from mixlayers._core.plan.masks import Box
from mixlayers._core.plan.plan import Recipe


@dataclass(frozen=True, repr=False)
class CutMix(MixingMethod):
    """Paste one box of the partner's input; the label gets the box's real share, after clipping.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019.

    Attributes:
        alpha: Of the Beta law of the box's nominal share, > 0. Published: 1.
        correct_lam: False gives the label the nominal share, as timm's option of that name.
    """

    partial: ClassVar[bool] = True

    alpha: float = 1.0
    correct_lam: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 0.0, Box(draw_lam(rng, self.alpha, perm, self.lam_per))
