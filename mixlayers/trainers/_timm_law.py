"""The law of timm's Mixup in a step: how much of which sample, in which box. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mixlayers._core.methods.method import check_fraction

Mode = Literal["batch", "pair", "elem"]
"""One draw for the batch, for every two partners, or for every sample."""


@dataclass(frozen=True)
class Drawn:
    """A step's decisions, each (1,) or (N,). The partners are the batch in reverse.

    Attributes:
        lam: Weight of the original sample where there is no box; float32.
        box: top, bottom, left, right, (4, 1 or N); an empty box cuts nothing.
        share: Share of the original sample in the label; float32.
    """

    lam: npt.NDArray[np.float32]
    box: npt.NDArray[np.int64]
    share: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Law:
    """timm's arguments, by its names and with its defaults.

    Attributes:
        mixup_alpha: Of Mixup's Beta distribution; 0: no Mixup.
        cutmix_alpha: Of CutMix's Beta distribution; 0: no CutMix.
        cutmix_minmax: Smallest and largest side of CutMix's box, as shares of the image's; instead of the alpha.
        prob: Probability to mix.
        switch_prob: Probability of CutMix, where both are on.
        mode: "batch", "pair" or "elem".
        correct_lam: Whether CutMix's label gets the share of the box within the image, not the nominal one.
    """

    mixup_alpha: float = 1.0
    cutmix_alpha: float = 0.0
    cutmix_minmax: Sequence[float] | None = None
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: Mode = "batch"
    correct_lam: bool = True

    def __post_init__(self) -> None:
        check_fraction("prob", self.prob, "set mixup_enabled = False to never mix.")
        if self.mode not in get_args(Mode):
            raise ValueError(
                f"mode must be one of {', '.join(map(repr, get_args(Mode)))}, got {self.mode!r}: timm's 'half' is of "
                "its collate function alone."
            )
        if self.mixup_alpha < 0 or self.cutmix_alpha < 0 or not 0 <= self.switch_prob <= 1:
            raise ValueError(
                "mixup_alpha and cutmix_alpha must be >= 0 and switch_prob in [0, 1], got "
                f"{self.mixup_alpha}, {self.cutmix_alpha} and {self.switch_prob}."
            )
        if self.cutmix_minmax is not None:
            low, high = self.cutmix_minmax
            if not 0 <= low < high <= 1:
                raise ValueError(
                    f"cutmix_minmax must be 0 <= min < max <= 1, got {tuple(self.cutmix_minmax)}."
                )

    @property
    def cuts(self) -> bool:
        """Whether any step may cut a box."""
        return self.cutmix_alpha > 0 or self.cutmix_minmax is not None

    @property
    def mixes(self) -> bool:
        """Whether any step may mix."""
        return self.mixup_alpha > 0 or self.cuts

    def draw(self, rng: np.random.Generator, size: int, height: int, width: int) -> Drawn:
        """Draw a step's decisions for a batch of `size` images of `height` by `width`."""
        count = {"batch": 1, "pair": (size + 1) // 2, "elem": size}[self.mode]
        cut = np.full(count, self.cuts)
        if self.mixup_alpha > 0 and self.cuts:
            cut = rng.random(count) < self.switch_prob
        alpha = np.where(cut, self.cutmix_alpha if self.cutmix_minmax is None else 1.0, self.mixup_alpha)
        lam = rng.beta(alpha, alpha)
        mixed = rng.random(count) < self.prob
        box = np.where(cut & mixed, self._boxes(rng, lam, height, width), 0)
        area = (box[1] - box[0]) * (box[3] - box[2]) / (height * width)
        corrected = self.correct_lam or self.cutmix_minmax is not None
        share = np.where(cut, 1.0 - area if corrected else lam, lam)
        drawn = Drawn(_weights(lam, mixed & ~cut), box, _weights(share, mixed))
        return self._mirrored(drawn, size) if self.mode == "pair" else drawn

    def _boxes(
        self, rng: np.random.Generator, lam: npt.NDArray[np.float64], height: int, width: int
    ) -> npt.NDArray[np.int64]:
        """top, bottom, left, right: (4, count)."""
        edges = []
        for side in (height, width):
            if self.cutmix_minmax is None:
                length = (side * np.sqrt(1.0 - lam)).astype(np.int64)
                centre = rng.integers(0, side, size=len(lam))
                start, stop = centre - length // 2, centre + (length + 1) // 2
            else:
                low, high = (int(side * share) for share in self.cutmix_minmax)
                length = rng.integers(low, max(high, low + 1), size=len(lam))
                start = rng.integers(0, side - length + 1)
                stop = start + length
            edges += [np.clip(start, 0, side), np.clip(stop, 0, side)]
        return np.stack(edges)

    def _mirrored(self, drawn: Drawn, size: int) -> Drawn:
        """The first half's decisions, for their partners too."""
        order = np.minimum(np.arange(size), np.arange(size)[::-1])
        return Drawn(drawn.lam[order], drawn.box[:, order], drawn.share[order])


def _weights(lam: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """lam there, 1 elsewhere."""
    return np.where(where, lam, 1.0).astype(np.float32)
