"""CutMix: a box of the partner's input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from mixlayers._core.checks import check_integer, keep
from mixlayers._core.methods.method import MixingMethod, check_alpha
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, draw_lam
from mixlayers._core.plan.masks import Box, BoxAlong
from mixlayers._core.plan.plan import Recipe


@dataclass(frozen=True, repr=False)
class CutMix(MixingMethod):
    """Paste one box of the partner's input; the label gets the box's real share, after clipping.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019.

    Attributes:
        alpha: Of the Beta distribution of the box's nominal share, > 0. Published: 1.
        correct_lam: False gives the label the nominal share, as timm's option of that name.
        axes: Which spatial axes the box is cut along, whole along the others; None: all. Of series (N, C, T) there is
            one; of spectrograms (N, C, F, T) `axes=(-1,)` pastes a stretch of time.
    """

    partial: ClassVar[bool] = True

    alpha: float = 1.0
    correct_lam: bool = True
    axes: tuple[int, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)
        if self.axes is not None:
            hint = "count the spatial axes from 0, or from -1 at the end."
            axes = tuple(check_integer("axes", axis, -8, 7, hint) for axis in self.axes)
            if not axes or len(set(axes)) < len(axes):
                raise ValueError(f"axes must name one spatial axis at least, each once, got {self.axes}.")
            keep(self, axes=axes)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        lam = draw_lam(rng, self.alpha, perm, self.lam_per)
        return 0.0, Box(lam) if self.axes is None else BoxAlong(lam, self.axes)
