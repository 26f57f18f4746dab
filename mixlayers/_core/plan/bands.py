"""SpecMix: bands of frequencies and of time that are the partner's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.plan.masks import Mask, Span


@dataclass(frozen=True)
class Bands:
    """Bands across a spectrogram along both of its axes; what one of them covers is under the mask.

    Attributes:
        most: The most bands along each axis; each number from 0 on is as likely.
        width: A band's share of its axis, in (0, 1).
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    most: int
    width: float

    def draw(
        self, rng: np.random.Generator, channels: int, spatial: Sequence[int]
    ) -> tuple[Mask, Span | None]:
        """Draw the mask, `(1, 1, *spatial)`."""
        if len(spatial) != 2:
            raise ValueError(
                f"SpecMix needs spectrograms (N, C, frequency, time), got {len(spatial)} spatial axes: add an axis of "
                "one channel, or use CutMix(axes=(-1,)) for waveforms."
            )
        mask = np.zeros((1, 1, *spatial), dtype=np.bool_)
        for axis, size in enumerate(spatial):
            length = int(size * self.width)
            for start in rng.integers(size - length + 1, size=int(rng.integers(self.most + 1))).tolist():
                band = slice(start, start + length)
                mask[(..., band) if axis else (..., band, slice(None))] = True
        return mask, None
