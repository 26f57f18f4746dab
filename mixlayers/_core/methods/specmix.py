"""SpecMix: bands of the partner's spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.checks import check_integer, keep
from mixlayers._core.methods.method import MixingMethod, check_one_for_all
from mixlayers._core.plan.bands import Bands
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Recipe


@dataclass(frozen=True, repr=False)
class SpecMix(MixingMethod):
    """Replace bands of frequencies and of time by the partner's, of spectrograms (N, C, frequency, time).

    0 to `bands` of each kind, each number as likely, at uniform places, where they may overlap; the label gets the
    share that they cover.

    Kim, Han, Ko, "SpecMix: A Mixed Sample Data Augmentation Method for Training with Time-Frequency Domain Features",
    Interspeech 2021.

    Attributes:
        bands: The most of each kind, >= 1. Published: 3.
        width: A band's share of its axis, in (0, 1). Published: 0.3.
    """

    partial: ClassVar[bool] = True

    bands: int = 3
    width: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_for_all(self, "set of bands")
        keep(self, bands=check_integer("bands", self.bands, 1, 2**15))
        if not 0.0 < self.width < 1.0:
            raise ValueError(f"width must be in (0, 1), got {self.width}: it is a band's share of its axis.")

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 0.0, Bands(self.bands, self.width)
