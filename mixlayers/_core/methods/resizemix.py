"""ResizeMix: the whole partner, made smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.checks import keep
from mixlayers._core.methods.method import MixingMethod, check_one_for_all
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.resized import ResizedBox


@dataclass(frozen=True, repr=False)
class ResizeMix(MixingMethod):
    """Paste the whole partner, made smaller, over a part of each input: the box shows all of what its label names.

    Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", arXiv:2012.11101.

    Attributes:
        scale: Smallest and largest of the partner's sides as a share of the input's, in (0, 1]; uniform, one a batch.
            Published: 0.1 and 0.8.
    """

    partial: ClassVar[bool] = True
    keeps_own: ClassVar[bool] = False

    scale: tuple[float, float] = (0.1, 0.8)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_for_all(self, "size")
        sides = [float(side) for side in self.scale]
        if len(sides) != 2 or not 0.0 < sides[0] <= sides[1] <= 1.0:
            raise ValueError(f"scale must be two numbers in (0, 1], the smaller first, got {self.scale}.")
        keep(self, scale=tuple(sides))

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 0.0, ResizedBox(float(rng.uniform(*self.scale)))
