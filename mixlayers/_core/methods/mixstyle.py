"""MixStyle and its kin: other statistics for hidden features, the labels stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from mixlayers._core.methods.dropblock import ReplacingMethod
from mixlayers._core.methods.method import MixingMethod, check_alpha
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam, LamPer, draw_lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.styles import Styled


@dataclass(frozen=True, repr=False)
class MixStyle(MixingMethod):
    """Give features a mix of their own and their partner's mean and deviation; the labels stay.

    It needs no labels: a wrapped model does so in each training forward, `model(x)`, with gradients on, at every listed
    layer, each with partners and lam of its own. Statistics are those of each sample's channels over space, and
    constants in the backward pass, so that no gradient reaches the partner. For domain generalisation name the layers
    after the first stages, never the last one; `pairs=Halves()` mixes across domains where a batch is one half of each.

    Zhou et al., "Domain Generalization with MixStyle", ICLR 2021; of frequencies as in fschmid56/EfficientAT.

    Attributes:
        alpha: Of the Beta distribution, > 0. Published: 0.1; of frequencies 0.4.
        over: "space", or "frequency" for spectrograms (N, C, frequency, time): Freq-MixStyle's statistics, of each
            frequency over channels and time.
        prob: Probability that a layer does so in a step, each for itself. Published: 0.5; of frequencies 0.4.
        lam_per: As of all methods; one for every "sample" is published.
        fold: Whether lam is the larger one of lam and 1 - lam. Published of frequencies.
        every_place: Whether it acts at all listed layers, as published, or at one of them, drawn uniformly.
    """

    hidden_layers: ClassVar[bool] = True
    labels_mix: ClassVar[bool] = False

    alpha: float = 0.1
    over: Literal["space", "frequency"] = "space"
    prob: float = field(default=0.5, kw_only=True)
    lam_per: LamPer = field(default="sample", kw_only=True)
    fold: bool = field(default=False, kw_only=True)
    every_place: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)
        if self.over not in ("space", "frequency"):
            raise ValueError(f"over must be 'space' or 'frequency', got {self.over!r}.")

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        lam = draw_lam(rng, self.alpha, perm, self.lam_per, fold=self.fold)
        return lam, Styled(self.over, 1e-6, detached="both")


@dataclass(frozen=True, repr=False)
class DSU(ReplacingMethod):
    """Shift features' mean and deviation at random, as far as they vary in the batch; the labels stay.

    It acts as MixStyle does, in each training forward and at every listed layer. Published at six places of a ResNet:
    the first convolution, its pooling and the ends of the four stages. A batch needs two samples.

    Li et al., "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022.

    Attributes:
        prob: Probability that a layer does so in a step, each for itself. Published: 0.5.
        every_place: Whether it acts at all listed layers, as published, or at one of them, drawn uniformly.
    """

    prob: float = field(default=0.5, kw_only=True)
    every_place: bool = field(default=True, kw_only=True)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 1.0, Styled("space", 1e-6, noisy=True)


@dataclass(frozen=True, repr=False)
class PAdaIN(MixingMethod):
    """Give features their partner's mean and deviation, seldom; the labels stay: permuted adaptive instance norm.

    It acts as MixStyle does, in each training forward and at every listed layer; published after every convolution with
    maps larger than one point. The partner's statistics are constants in the backward pass.

    Nuriel et al., "Permuted AdaIN: Reducing the Bias Towards Global Statistics in Image Classification", CVPR 2021.

    Attributes:
        prob: Probability that a layer does so in a step, each for itself. Published: 0.01.
        every_place: Whether it acts at all listed layers, as published, or at one of them, drawn uniformly.
    """

    hidden_layers: ClassVar[bool] = True
    labels_mix: ClassVar[bool] = False

    prob: float = field(default=0.01, kw_only=True)
    every_place: bool = field(default=True, kw_only=True)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 0.0, Styled("space", 1e-5, detached="partner")
