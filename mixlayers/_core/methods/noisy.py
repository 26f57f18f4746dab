"""Noisy Feature Mixup: Manifold Mixup with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixlayers._core.methods.mixup import ManifoldMixup
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.noise import Noise
from mixlayers._core.plan.plan import Recipe


@dataclass(frozen=True, repr=False)
class NoisyFeatureMixup(ManifoldMixup):
    """Manifold Mixup whose features then get noise, multiplied and added; how much is drawn anew each step.

    `(1 + multiply * b1 * u) * m + add * b2 * e`, with m what Manifold Mixup makes, b1, b2 ~ Beta(2, 5), and for each
    element u uniform in (-1, 1) and e standard normal. Noise is made where the features are (in Chainer on the host),
    by a generator of the step's own, so that it differs from framework to framework, and repeats.

    Lim et al., "Noisy Feature Mixup", ICLR 2022.

    Attributes:
        alpha: Of the Beta distribution of lam, > 0. Published: 1.
        add: Strength of the added noise, >= 0. Published: 0.4 on CIFAR, 0.1 on ImageNet.
        multiply: Strength of the multiplied noise, >= 0. Published: 0.2 on CIFAR, 0.1 on ImageNet.
        fold: As of Mixup.
    """

    keeps_own: ClassVar[bool] = False

    alpha: float = 1.0
    add: float = 0.4
    multiply: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("add", "multiply"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} must be >= 0 and finite, got {getattr(self, name)}: 0 leaves it out."
                )

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        lam, _ = super().draw(rng, perm, place)
        multiply, add = rng.beta(2.0, 5.0, 2).tolist()
        return lam, Noise(self.multiply * multiply, self.add * add)
