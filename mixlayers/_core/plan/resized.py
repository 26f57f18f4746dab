"""ResizeMix: the whole partner, made smaller, pasted over a part of the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.masks import Mask


@dataclass(frozen=True, eq=False)
class Paste:
    """A plan brought to one feature's shape: under the mask, other points of the partner.

    Attributes:
        perm: Partners, int64 (N,).
        mask: bool, `(N, 1, *spatial)`; channels last `(N, *spatial, 1)`.
        source: Which point of the partner comes to each point, flat positions in space, int64 (N, points).
        s: Share of the partner that the label gets.
        channel_dim: 1 or -1, where the feature has its channels.
    """

    perm: npt.NDArray[np.int64]
    mask: Mask
    source: npt.NDArray[np.int64]
    s: float
    channel_dim: int = 1

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Paste:
        """The same replacement for a feature `(N, *spatial, C)`."""
        return Paste(self.perm, np.ascontiguousarray(np.moveaxis(self.mask, 1, -1)), self.source, self.s, -1)


@dataclass(frozen=True)
class ResizedBox:
    """The partner at `scale` of its sides, at a place of each sample's own, moved inside where it would leave it.

    Attributes:
        scale: Of the sides, in (0, 1].
    """

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    scale: float

    def draw(self, rng: np.random.Generator, feature: Feature) -> Paste:
        """Draw for a feature."""
        spatial = feature.spatial
        if not spatial:
            raise ValueError(
                "ResizeMix needs images or series (N, C, ...), got (N, C): use Mixup, which takes any."
            )
        size = len(feature.perm)
        mask = np.ones((size, *spatial), dtype=np.bool_)
        source = np.zeros((size, *spatial), dtype=np.int64)
        for axis, side in enumerate(spatial):
            short = int(side * self.scale)
            start = np.clip(rng.integers(side, size=(size, 1)) - short // 2, 0, side - short)
            at = np.arange(side) - start
            along = (size, *(side if axis == other else 1 for other in range(len(spatial))))
            mask &= ((at >= 0) & (at < short)).reshape(along)
            nearest = np.clip(np.floor(at / self.scale).astype(np.int64), 0, side - 1)
            source = source * side + nearest.reshape(along)
        share = float(mask[0].mean())
        return Paste(feature.perm, mask[:, None], source.reshape(size, -1), share)
