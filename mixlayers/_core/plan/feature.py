"""A feature as recipes see it: its partners, their lam, its shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixlayers._core.plan.lam import Lam


@dataclass(frozen=True, eq=False)
class Feature:
    """What a plan is brought to. Recipes that are no masks have one verb: `draw(rng, feature)` says what is to be done.

    Attributes:
        perm: Partners, int64 (N,).
        lam: Share of the original sample: a float, or float32 (N,).
        shape: Batch axis first.
        last: Whether the channels are last. What is drawn has them second, and is moved afterwards.
    """

    perm: npt.NDArray[np.int64]
    lam: Lam
    shape: tuple[int, ...]
    last: bool = False

    @property
    def channels(self) -> int:
        """C."""
        return self.shape[-1 if self.last else 1]

    @property
    def spatial(self) -> tuple[int, ...]:
        """The sides of the maps."""
        return self.shape[1:-1] if self.last else self.shape[2:]
