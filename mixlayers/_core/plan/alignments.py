"""AlignMixup: the cells of one map moved to those of another that they are most like, before both are blended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.blends import partner_share
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.lam import Lam


@dataclass(frozen=True, eq=False)
class Align:
    """A plan brought to one feature's shape: own and partner blended, one of them moved to the other's cells.

    The transport between the cells' features is Sinkhorn's, with squared distances, and is a constant in the backward
    pass. Each moved cell is a weighted mean of cells: the weights of its row, or column, add up to one.

    Attributes:
        perm: Partners, int64 (N,).
        lam: Share of the original sample: a float, or float32 (N,).
        moves_own: Whether the own map is moved to the partner's cells; else the partner's to the own.
        eps: Sinkhorn's regularisation, in units of the squared distance.
        rounds: How often rows and columns are rescaled.
        s: Share of the partner that the label gets.
        channel_dim: 1 or -1, where the feature has its channels.
    """

    perm: npt.NDArray[np.int64]
    lam: Lam
    moves_own: bool
    eps: float
    rounds: int
    s: Lam
    channel_dim: int = 1

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Align:
        """The same replacement for a feature `(N, *spatial, C)`."""
        return Align(self.perm, self.lam, self.moves_own, self.eps, self.rounds, self.s, -1)


@dataclass(frozen=True)
class Aligned:
    """How maps are aligned; which of the two is moved is a fair coin's.

    Attributes:
        eps, rounds: As of `Align`.
    """

    masked: ClassVar[bool] = True  # labels with points cannot follow cells that are moved
    labels_stay: ClassVar[bool] = False

    eps: float
    rounds: int

    def draw(self, rng: np.random.Generator, feature: Feature) -> Align:
        """Draw for a feature."""
        if not feature.spatial:
            raise ValueError(
                "AlignMixup needs maps (N, C, ...) whose cells it can move, got (N, C): name a layer before the "
                "pooling."
            )
        moves_own = bool(rng.random() < 0.5)
        share = partner_share(feature.lam, 1.0)
        return Align(feature.perm, feature.lam, moves_own, self.eps, self.rounds, share)
