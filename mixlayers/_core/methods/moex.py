"""MoEx: the partner's moments, and a part of its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from mixlayers._core.checks import check_integer, keep
from mixlayers._core.methods.method import MixingMethod, check_one_for_all
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.styles import Styled

Moments = Literal["channels", "space", "all"]


@dataclass(frozen=True, repr=False)
class MoEx(MixingMethod):
    """Exchange hidden features' mean and deviation for the partner's; the label gets a fixed part of the partner's.

    Gradients go through all statistics, the partner's too. It needs a layer that everything passes through.

    Li et al., "On Feature Normalization and Data Augmentation", CVPR 2021.

    Attributes:
        lam: The own share of the label, in (0, 1), whatever the features are. Published: 0.5 on CIFAR, with prob 0.25;
            0.9 on ImageNet, with prob 1.
        over: What moments are of: a point's "channels" (positional norm, as published), a channel's map ("space"), the
            whole sample ("all"), or so many groups of channels with their maps.
    """

    hidden_layers: ClassVar[bool] = True
    share_is_lam: ClassVar[bool] = False

    lam: float = 0.5
    over: Moments | int = "channels"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_for_all(self, "share")
        if not 0.0 < self.lam < 1.0:
            raise ValueError(f"lam must be in (0, 1), got {self.lam}: it is the own share of the label.")
        if isinstance(self.over, str) and self.over not in get_args(Moments):
            raise ValueError(
                f"over must be 'channels', 'space', 'all' or a number of groups, got {self.over!r}."
            )
        if not isinstance(self.over, str):
            keep(self, over=check_integer("over", self.over, 1, 2**31 - 1, "it is a number of groups."))

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 0.0, Styled(self.over, 1e-5, s=1.0 - self.lam)
