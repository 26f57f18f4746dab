"""Methods made of methods: one of several, or only for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixlayers._method import Method, MixingMethod, check_fraction


@dataclass(frozen=True)
class OneOf(Method):
    """One method a step, drawn by weight: `OneOf({Mixup(0.8): 1, CutMix(): 1})`.

    Attributes:
        methods: Method -> weight > 0; weights need not sum to one.
        prob: Probability that a step mixes at all, in (0, 1].
    """

    methods: Mapping[Method, float]
    prob: float = 1.0

    def __post_init__(self) -> None:
        check_fraction("prob", self.prob, "leave the method out to never mix.")
        if not self.methods:
            raise ValueError("OneOf needs at least one method, got none.")
        for method, weight in self.methods.items():
            if not isinstance(method, Method):
                raise TypeError(f"OneOf's keys must be methods such as Mixup(), got {method!r}.")
            if not 0.0 < weight < float("inf"):
                raise ValueError(
                    f"a weight must be > 0, got {weight} for {method!r}: leave the method out instead."
                )
        object.__setattr__(self, "methods", dict(self.methods))

    def __hash__(self) -> int:
        return hash((tuple(self.methods.items()), self.prob))

    def choose(self, rng: np.random.Generator, step: int) -> MixingMethod | None:
        mixes, at = rng.random() < self.prob, rng.random()
        reached = np.cumsum(list(self.methods.values()))
        chosen = list(self.methods)[int(np.searchsorted(reached / reached[-1], at, side="right"))]
        return chosen.choose(rng, step) if mixes else None

    @property
    def leaves(self) -> tuple[MixingMethod, ...]:
        return tuple(leaf for method in self.methods for leaf in method.leaves)


@dataclass(frozen=True)
class Scheduled(Method):
    """A method that acts in steps `start <= step < stop`, ever more often during the first `warmup` of them.

    `Scheduled(CutMix(), stop=80 * len(loader), warmup=5 * len(loader))` is off for the last epochs.

    Attributes:
        method: What acts.
        start: First step, >= 0.
        stop: First step that is clean again; None: never.
        warmup: Steps over which the probability of acting rises from 0 to the method's own.
    """

    method: Method
    start: int = 0
    stop: int | None = None
    warmup: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise TypeError(f"method must be a method such as Mixup(), got {self.method!r}.")
        if self.start < 0 or self.warmup < 0:
            raise ValueError(f"start and warmup must be >= 0, got start={self.start}, warmup={self.warmup}.")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop must be after start, got start={self.start}, stop={self.stop}.")

    def choose(self, rng: np.random.Generator, step: int) -> MixingMethod | None:
        method = self.method.choose(rng, step)
        since = step - self.start
        acts = rng.random() * self.warmup < since + 1
        return method if acts and since >= 0 and (self.stop is None or step < self.stop) else None

    @property
    def leaves(self) -> tuple[MixingMethod, ...]:
        return self.method.leaves
