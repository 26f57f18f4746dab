"""Features that get other statistics, a style: their partner's, a mix of both, or noisy ones of their own.

A recipe (`Styled`) belongs to the plan; what is measured, and over what, follows from the feature's shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import same_fields
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.lam import Lam

Over = Literal["space", "channels", "frequency", "all"]
"""What mean and deviation are taken over: a channel's map; a point's channels; a frequency's channels and times (of
spectrograms, (N, C, frequency, time)); the whole sample."""

Detached = Literal["both", "partner", "none"]
"""Whose statistics are constants in the backward pass."""


@dataclass(frozen=True, eq=False)
class Restyle:
    """A plan brought to one feature's shape: `(x - mean) / sd * new_sd + new_mean`.

    The new statistics are `keep * own + (1 - keep) * partner's`; or own + noise * their deviation over the batch.

    Attributes:
        perm: Partners, int64 (N,).
        keep: The own share of the statistics: a float, or float32 (N,).
        shape: As what the feature is looked at, where its channels come in groups; None: as it is.
        axes: Over which of the axes the statistics are taken.
        eps: Added to the variance.
        detached: Whose statistics are constants in the backward pass.
        noise: Standard normal, float32 (2, N, ...), of the mean's and of the deviation's shape; None: partners.
        s: Share of the partner that the label gets.
    """

    perm: npt.NDArray[np.int64]
    keep: Lam
    shape: tuple[int, ...] | None
    axes: tuple[int, ...]
    eps: float
    detached: Detached
    noise: npt.NDArray[np.float32] | None
    s: float

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def channels_last(self) -> Restyle:
        """The same: it was drawn for where the feature has its channels."""
        return self


@dataclass(frozen=True)
class Styled:
    """Statistics of each sample, changed.

    Attributes:
        over: What they are taken over; a whole number: so many groups of channels, with their maps.
        eps: Added to the variance.
        detached: Whose statistics are constants in the backward pass.
        noisy: Whether they get noise instead of a partner's.
        s: Share of the partner that the label gets; None: labels stay as they are.
    """

    masked: ClassVar[bool] = False

    over: Over | int
    eps: float
    detached: Detached = "none"
    noisy: bool = False
    s: float | None = None

    @property
    def labels_stay(self) -> bool:
        """Whether no label is mixed."""
        return self.s is None

    def draw(self, rng: np.random.Generator, feature: Feature) -> Restyle:
        """Draw for a feature.

        Raises:
            ValueError: If the statistics would be of one number each.
        """
        shape, last = feature.shape, feature.last
        space = tuple(range(1, len(shape) - 1)) if last else tuple(range(2, len(shape)))
        channels = len(shape) - 1 if last else 1
        seen, axes = shape, space
        if isinstance(self.over, int):
            if shape[channels] % self.over:
                raise ValueError(
                    f"{shape[channels]} channels are no {self.over} groups of one size: choose a divisor."
                )
            grouped = (self.over, shape[channels] // self.over)
            seen = (*shape[:channels], *grouped, *shape[channels + 1 :])
            axes = (*space, channels + 1) if last else (2, *(axis + 1 for axis in space))
        elif self.over == "frequency":
            if len(space) != 2:
                raise ValueError(
                    f"statistics of frequencies need spectrograms (N, C, frequency, time), got {shape}."
                )
            axes = (channels, space[1])
        elif self.over != "space":
            axes = (channels,) if self.over == "channels" else (channels, *space)
        axes = tuple(sorted(axes))
        counted = prod(seen[axis] for axis in axes)
        if counted < 2:
            more = "more channels, or over='space'" if self.over == "channels" else "larger maps"
            raise ValueError(
                f"the statistics over {self.over!r} of a feature {shape} would be of {counted} number each, "
                f"which has no deviation: choose a layer whose output has {more}."
            )
        if self.noisy and shape[0] < 2:
            raise ValueError("DSU measures how statistics vary in the batch, which needs two samples, got 1.")
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(seen))
        noise = rng.standard_normal((2, *kept), dtype=np.float32) if self.noisy else None
        as_seen = None if seen == shape else seen
        return Restyle(
            feature.perm, feature.lam, as_seen, axes, self.eps, self.detached, noise, self.s or 0.0
        )
