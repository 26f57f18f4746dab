"""Methods that are another one with something changed: Remix's labels, RegMixup's clean half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import keep, plain
from mixlayers._core.methods.method import MixingMethod
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.relabel import Lopsided


@dataclass(frozen=True, repr=False)
class Around(MixingMethod):
    """A method that does what another one does, and something else.

    Attributes:
        method: The other one. It says the arguments that all methods share, such as prob.
    """

    method: MixingMethod

    def __post_init__(self) -> None:
        name, inner = type(self).__name__, plain(self.method)
        if not isinstance(inner, MixingMethod) or not inner.labels_mix:
            raise TypeError(
                f"{name} takes one method that mixes labels, such as Mixup(), got {inner!r}: of several make each one "
                f"{name}(...), inside OneOf or Scheduled."
            )
        for field in fields(MixingMethod):
            if getattr(self, field.name) not in (field.default, getattr(inner, field.name)):
                raise ValueError(
                    f"give {field.name} to the method inside, got {field.name}={getattr(self, field.name)!r} for "
                    f"{name}."
                )
            keep(self, **{field.name: getattr(inner, field.name)})
        for same in ("hidden_layers", "partial", "keeps_own", "correct_lam", "loss_scale"):
            keep(self, **{same: getattr(inner, same)})
        keep(self, share_is_lam=inner.share_is_lam and type(self).share_is_lam)

    def __repr__(self) -> str:
        shared = {f.name for f in fields(MixingMethod)}
        told = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in shared)
        return f"{type(self).__name__}({', '.join(told)})"

    @property
    def by_class(self) -> bool:
        return self.method.by_class

    def partners(
        self,
        rng: np.random.Generator,
        size: int,
        labels: npt.NDArray[np.integer] | None,
        near: Mapping[str, npt.NDArray[Any]] | None,
    ) -> Permutation:
        return self.method.partners(rng, size, labels, near)

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return self.method.draw(rng, perm, place)

    def relabel(self, perm: Permutation, labels: npt.NDArray[np.integer] | None) -> Lopsided | None:
        return self.method.relabel(perm, labels)


@dataclass(frozen=True, repr=False)
class Remix(Around):
    """Another method for long-tailed classes: the label of a pair goes to the rarer class alone where it is much rarer.

    Features are mixed as the method does it. If one class is at least k times as frequent as the other, and its share
    of the features is below tau, the other one gets the whole label; else labels follow the features. It needs class
    labels when the step is planned: `model(x, target=labels)`.

    Chou et al., "Remix: Rebalanced Mixup", arXiv:2007.03943.

    Attributes:
        method: What mixes the features, such as Mixup(), CutMix(), ManifoldMixup().
        counts: How many samples of each class the training set has, such as `np.bincount(labels)`.
        k: How many times as frequent, > 1. Published: 3.
        tau: The share below which the frequent class loses the label, in (0, 1]. Published: 0.5.
    """

    share_is_lam: ClassVar[bool] = False

    counts: tuple[int, ...] = ()
    k: float = 3.0
    tau: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = np.asarray(self.counts)
        if counts.ndim != 1 or len(counts) < 2 or counts.dtype.kind not in "iuf" or not (counts >= 0).all():
            raise ValueError(
                "counts must be a number >= 0 for each of two classes at least, got "
                f"{self.counts!r}: np.bincount(labels)."
            )
        keep(self, counts=tuple(counts.tolist()), k=plain(self.k), tau=plain(self.tau))
        if not 1.0 < self.k < float("inf"):
            raise ValueError(f"k must be > 1 and finite, got {self.k}: a class is so many times as frequent.")
        if not 0.0 < self.tau <= 1.0:
            raise ValueError(f"tau must be in (0, 1], got {self.tau}: it is a share of the features.")

    @property
    def by_class(self) -> bool:
        return True

    def relabel(self, perm: Permutation, labels: npt.NDArray[np.integer] | None) -> Lopsided | None:
        if labels is None:
            raise ValueError(
                "Remix compares how frequent classes are and needs the labels when the step is planned, got none: use "
                "model(x, target=labels) or `with mixer(labels):`."
            )
        counts = np.asarray(self.counts, dtype=np.float64)
        known = (labels >= 0) & (labels < len(counts))
        if not known.all() or not counts[labels].all():
            wrong = [
                label
                for label in np.unique(labels).tolist()
                if not (0 <= label < len(counts) and counts[label])
            ]
            raise ValueError(
                f"Remix has no count, or one of 0, for the labels {wrong}: give counts=np.bincount(all labels)."
            )
        return Lopsided.of(counts[labels], perm, self.k, self.tau)


@dataclass(frozen=True, repr=False)
class Beside(Around):
    """Another method on the second half of a batch, beside a clean first half: RegMixup with `Beside(Mixup(20))`.

    Give the batch twice, `torch.cat([x, x])` with `torch.cat([y, y])`: a mean loss is then half the clean one and half
    the mixed one, and norms see both, as published. Partners are drawn within the second half; in the first each sample
    is its own.

    Pinto et al., "Using Mixup as a Regularizer Can Surprisingly Improve Accuracy & Out-of-Distribution Robustness",
    NeurIPS 2022.

    Attributes:
        method: What mixes the second half, also at hidden layers. ResizeMix, AlignMixup and NoisyFeatureMixup are
            refused: they change a sample that is its own partner too.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.keeps_own:
            raise ValueError(
                f"Beside leaves its first half clean, where each sample is its own partner, and {self.method!r} "
                "changes those too: take a method that does not, such as Mixup, CutMix or ManifoldMixup."
            )

    def partners(
        self,
        rng: np.random.Generator,
        size: int,
        labels: npt.NDArray[np.integer] | None,
        near: Mapping[str, npt.NDArray[Any]] | None,
    ) -> Permutation:
        if size % 2:
            raise ValueError(
                f"Beside needs an even batch, its clean half first, got {size} samples: give it twice, images "
                "and labels, as torch.cat([x, x])."
            )
        half = size // 2
        second = self.method.partners(
            rng,
            half,
            None if labels is None else labels[half:],
            None if near is None else {name: values[half:] for name, values in near.items()},
        )
        return np.concatenate([np.arange(half, dtype=np.int64), half + second])
