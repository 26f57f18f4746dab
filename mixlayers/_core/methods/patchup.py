"""PatchUp: blocks of the partner's hidden features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mixlayers._core.checks import keep
from mixlayers._core.methods.method import MixingMethod, check_alpha, check_fraction
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, draw_lam
from mixlayers._core.plan.masks import Blocks, Box
from mixlayers._core.plan.plan import Recipe


@dataclass(frozen=True, repr=False)
class PatchUp(MixingMethod):
    """Replace (hard) or blend (soft) blocks of a hidden feature; at the input it is CutMix(alpha=1).

    Faramarzi et al., "PatchUp: A Feature-Space Block-Level Regularization Technique for Convolutional
    Neural Networks", AAAI 2022.

    Attributes:
        mode: "hard": the partner's block (lam = 0). "soft": lam ~ Beta(alpha, alpha) under the blocks.
        gamma: In (0, 1], by default 0.5 (hard) or 0.75 (soft), as published. The share that is really
            replaced depends on the map's size; see `portion`.
        block_size: Side of a block, >= 1, clipped to the map.
        portion: Expected share of features under the blocks, in (0, 1), whatever the map's size; instead
            of gamma.
        alpha: Of soft mode's Beta distribution. Published: 2.
        loss_scale: 2 gives the published loss, whose two terms are one and the same.
    """

    hidden_layers: ClassVar[bool] = True
    partial: ClassVar[bool] = True

    mode: Literal["hard", "soft"] = "hard"
    gamma: float | None = None
    block_size: int = 7
    portion: float | None = None
    alpha: float = 2.0
    loss_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("hard", "soft"):
            raise ValueError(f"mode must be 'hard' or 'soft', got {self.mode!r}.")
        if self.gamma is not None and self.portion is not None:
            raise ValueError(
                f"give gamma or portion, not both, got gamma={self.gamma}, portion={self.portion}."
            )
        if self.portion is None:
            if self.gamma is None:
                object.__setattr__(self, "gamma", 0.5 if self.mode == "hard" else 0.75)
            check_fraction("gamma", self.gamma or 0.0, "it is the rate of replaced blocks; 0.5 is published.")
        elif not 0.0 < self.portion < 1.0:
            raise ValueError(
                f"portion must be in (0, 1), got {self.portion}: it is the share of replaced features."
            )
        if (
            isinstance(self.block_size, bool)
            or self.block_size < 1
            or self.block_size != int(self.block_size)
        ):
            raise ValueError(f"block_size must be a whole number of at least 1, got {self.block_size}.")
        keep(self, block_size=int(self.block_size))
        if not 0.0 < self.loss_scale < float("inf"):
            raise ValueError(
                f"loss_scale must be > 0, got {self.loss_scale}: 1, or 2 for the published loss."
            )
        check_alpha(self.alpha)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        if place == "input":
            return 0.0, Box(draw_lam(rng, 1.0, perm, self.lam_per))
        lam = 0.0 if self.mode == "hard" else draw_lam(rng, self.alpha, perm, self.lam_per)
        return lam, Blocks(self.gamma, self.block_size, self.portion or 0.0)
