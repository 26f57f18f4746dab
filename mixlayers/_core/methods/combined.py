"""Methods made of methods: one of several, or only for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mixlayers._core.checks import check_integer, keep, keep_plain, plain
from mixlayers._core.methods.method import Method, MixingMethod, check_fraction


@dataclass(frozen=True, eq=False)
class OneOf(Method):
    """One method a step, drawn by weight: `OneOf({Mixup(0.8): 1, CutMix(): 3})`.

    Attributes:
        methods: Method -> weight > 0; weights need not sum to one. Or a list of methods, which all weigh 1. Their
            order is a part of the method: in another one other steps draw other methods.
        prob: Probability that a step mixes at all, in (0, 1].
    """

    methods: Mapping[Method, float] | Iterable[Method]
    prob: float = 1.0

    def __post_init__(self) -> None:
        keep_plain(self)
        check_fraction("prob", self.prob, "leave the method out to never mix.")
        if isinstance(self.methods, Method) or not isinstance(self.methods, Iterable):
            raise TypeError(
                f"OneOf takes a dict of methods and their weights, or a list of methods, got {self.methods!r}: "
                "OneOf([Mixup(), CutMix()])."
            )
        weights = self.methods if isinstance(self.methods, Mapping) else _alike(self.methods)
        keep(self, methods={method: plain(weight) for method, weight in weights.items()})
        if not self._weights:
            raise ValueError("OneOf needs at least one method, got none.")
        for method, weight in self._weights.items():
            if not isinstance(method, Method):
                raise TypeError(f"OneOf's keys must be methods such as Mixup(), got {method!r}.")
            if not 0.0 < weight < float("inf"):
                raise ValueError(
                    f"a weight must be > 0, got {weight} for {method!r}: leave the method out instead."
                )

    @property
    def _weights(self) -> dict[Method, float]:
        return self.methods  # type: ignore[return-value]  # made one in __post_init__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneOf) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> object:
        return tuple(self._weights.items()), self.prob

    def choose(self, rng: np.random.Generator, step: int) -> MixingMethod | None:
        mixes, at = rng.random() < self.prob, rng.random()
        reached = np.cumsum(list(self._weights.values()))
        chosen = list(self._weights)[int(np.searchsorted(reached / reached[-1], at, side="right"))]
        return chosen.choose(rng, step) if mixes else None

    @property
    def leaves(self) -> tuple[MixingMethod, ...]:
        return tuple(leaf for method in self._weights for leaf in method.leaves)


def _alike(methods: Iterable[Method]) -> dict[Method, float]:
    """A list of methods as a dict; one that stands there twice weighs two."""
    weights: dict[Method, float] = {}
    for method in methods:
        weights[method] = weights.get(method, 0) + 1
    return weights


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
        keep_plain(self)
        if self.start < 0 or self.warmup < 0:
            raise ValueError(f"start and warmup must be >= 0, got start={self.start}, warmup={self.warmup}.")
        for name in ("start", "stop", "warmup"):
            if getattr(self, name) is not None:
                hint = "steps are counted from 0; for a share of the training multiply it by the number of steps."
                keep(self, **{name: check_integer(name, getattr(self, name), 0, 2**64 - 1, hint)})
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
