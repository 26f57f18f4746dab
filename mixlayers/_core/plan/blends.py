"""A plan brought to one feature's shape: partners blended in under a mask, or by a weight at each point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.masks import Mask, Span


@dataclass(frozen=True, eq=False)
class Blend:
    """A plan brought to one feature's shape: `x + w * (x[perm] - x)`, with `w = mask * (1 - lam)`.

    Attributes:
        perm: Partners, int64 (N,).
        lam: Share of the original sample under the mask: a float, or float32 (N,).
        mask: bool, broadcastable to the feature with its batch axis first; None: everywhere.
        box: The mask again as slices over all axes, when it is one box for the whole batch.
        s: Share of the partner that the label gets, the mean of w: a float, or float32 (N,).
    """

    perm: npt.NDArray[np.int64]
    lam: Lam
    mask: Mask | None
    box: Span | None
    s: Lam

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Blend:
        """The same replacement for a feature `(N, *spatial, C)`."""
        mask = None if self.mask is None else np.ascontiguousarray(np.moveaxis(self.mask, 1, -1))
        box = None if self.box is None else (self.box[0], *self.box[2:], self.box[1])
        return Blend(self.perm, self.lam, mask, box, self.s)


@dataclass(frozen=True, eq=False)
class Weigh:
    """A plan brought to one feature's shape, with a weight at each point: `keep * x + (1 - keep) * x[perm]`.

    Attributes:
        perm: Partners, int64 (N,).
        keep: The sample's own weight, float32 in [0, 1], broadcastable to the feature with its batch axis first.
        s: Share of the partner that the label gets, the mean of 1 - keep: a float, or float32 (N,).
    """

    perm: npt.NDArray[np.int64]
    keep: npt.NDArray[np.float32]
    s: Lam

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Weigh:
        """The same replacement for a feature `(N, *spatial, C)`."""
        return Weigh(self.perm, np.ascontiguousarray(np.moveaxis(self.keep, 1, -1)), self.s)


def partner_share(lam: Lam, covered: Any) -> Lam:
    """The mean of w = mask * (1 - lam): a float, or float32 (N,)."""
    s = (1.0 - lam) * covered
    return s.astype(np.float32) if isinstance(s, np.ndarray) else float(s)
