"""Timing on a shared machine: interleaved runs, medians with quartiles, and rows that say whether a limit holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Scale:
    """How much to run.

    Attributes:
        rounds: Interleaved rounds of cheap work.
        steps: Rounds that hold a whole training step.
        batch, width, size: Batch, channels of ResNet-18's first stage, and image side; 128, 64, 32 but for a trial run.
        more: Whether to run what only the full run shows: more sizes, the authors' steps, the tuned malloc.
    """

    rounds: int
    steps: int
    batch: int = 128
    width: int = 64
    size: int = 32
    more: bool = True


FULL = Scale(rounds=15, steps=5)
QUICK = Scale(rounds=5, steps=2, more=False)
TINY = Scale(rounds=3, steps=2, batch=4, width=4, size=16)


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        part: The benchmark that it belongs to.
        what: What was timed.
        unit: Of ours, the rivals and the limit; "x add" is a ratio to additions of the same size, and so on.
        ours: Median and quartiles.
        rivals: The same for other ways to do it.
        limit: What ours may take; None where nothing was promised.
        malloc: "default", or "tuned" where large blocks are kept, not mapped afresh at each allocation.
    """

    part: str
    what: str
    unit: str
    ours: Spread
    rivals: Mapping[str, Spread] = field(default_factory=dict)
    limit: float | None = None
    malloc: str = "default"

    @property
    def met(self) -> bool | None:
        return None if self.limit is None else self.ours.median <= self.limit

    def __str__(self) -> str:
        promised = "" if self.limit is None else f", at most {self.limit:g} was promised"
        return f"{self.part}: {self.what} ({self.malloc} malloc): {self.ours} {self.unit}{promised}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        rivals = {name: Spread(**spread) for name, spread in data["rivals"].items()}
        return cls(
            **{key: data[key] for key in ("part", "what", "unit", "limit", "malloc")},
            ours=Spread(**data["ours"]),
            rivals=rivals,
        )


def seconds(
    work: Callable[[], object], repeat: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The time of one run, the mean of a few."""
    start = clock()
    for _ in range(repeat):
        work()
    return (clock() - start) / repeat


def interleave(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    repeat: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time everything in turn, round after round, so that the machine's other load falls on all alike.

    Args:
        work: What to time, by name.
        rounds: How often.
        repeat: How many runs make one time.
        clock: Whose seconds; `time.process_time`, with one thread, is disturbed less by other processes.
    """
    for each in work.values():
        each()
    names = list(work)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(work[name], repeat, clock))
    return times


def ratio(times: Sequence[float], base: Sequence[float]) -> Spread:
    """The ratios, round by round."""
    return Spread.of([one / other for one, other in zip(times, base, strict=True)])
