"""Whether places are true mixing points, by experiment: swap samples there and look whether the outputs are swapped.

A true mixing point holds all of a sample. Where every sample gets another's features, each output must then be
exactly the other's. A framework is asked for one thing, `run({place: shift}) -> arrays`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["yes", "no", "undecided"]
Array = npt.NDArray[Any]
Run = Callable[[Mapping[Hashable, int]], Sequence[Array]]
"""One forward in training mode: each place's output is rolled along the batch axis, as `numpy.roll` would."""

SURE: Final = 1e-5
"""Up to here, as a share of the samples' distance, the outputs are swapped: float32's rounding is below."""

WRONG: Final = 1e-4
NOISY: Final = 1e-2
"""From here on a model treats samples so differently by their position that nothing can be told."""

EVERYTHING: Final = "<the whole batch>"
"""The key in `run` by which all arguments are rolled: a place that is true for certain."""


@dataclass(frozen=True)
class Argument:
    """The key in `run` by which one argument alone is rolled, while a place returns what it does in a clean forward.

    Attributes:
        name: The argument's name.
        held: The place.
    """

    name: str
    held: str


@dataclass(frozen=True)
class Proof:
    """The experiment's result at one place.

    Attributes:
        verdict: "yes" if swapped features gave swapped outputs, "no" if they did not, else "undecided".
        reason: Why not; empty for "yes".
        off: How far an output was from another sample's, as a share of the distance between samples.
        noise: How far it is where the whole batch is swapped; None if that was not needed.
        culprits: The arguments that reach the output another way.
        blind: Whether the outputs tell nothing of the samples, so that the graph alone can judge.
        raised: Whether the model raised where samples were swapped; the reason is what.
    """

    verdict: Verdict
    reason: str = ""
    off: float = 0.0
    noise: float | None = None
    culprits: tuple[str, ...] = ()
    blind: bool = False
    raised: bool = False


def prove(
    run: Run,
    clean: Sequence[Array],
    places: Sequence[str],
    size: int,
    batch_dim: int = 0,
    worst: Callable[[float], float] = float,
) -> dict[str, Proof]:
    """Every place's proof: all at once where they hold, one at a time where they do not.

    Places that are swapped together are each rolled by one sample more, and are at most `size - 1`: a path that
    goes round some of them is then behind the others by a number of samples that is no multiple of `size`.

    Args:
        run: See `Run`. It may raise; what it raises is then the reason.
        clean: The outputs of a forward in which nothing is rolled.
        places: In the order in which they run.
        size: Samples in the batch.
        batch_dim: Their axis in outputs that have them there.
        worst: The largest of a number over all processes that run this together: they must all do the same.
    """
    outputs = Outputs(clean, size, batch_dim)
    if worst(float(not outputs.apart)):
        return dict.fromkeys(places, Proof("undecided", outputs.why_not, blind=True))
    found: dict[str, Proof] = {}
    single: dict[str, tuple[float, Exception | None]] = {}
    for group in _groups(places, size - 1):
        off, error = _attempt(run, outputs, dict.fromkeys(group, 1), worst)
        if off <= SURE:
            found.update(dict.fromkeys(group, Proof("yes", off=off)))
        else:
            single.update(dict.fromkeys(group, (off, error)) if len(group) == 1 else {})
    failed = [place for place in places if place not in found]
    if not failed:
        return found
    noise = max(
        outputs.off_from_clean(run, worst), _attempt(run, outputs, {EVERYTHING: 1}, worst, rolled=True)[0]
    )
    for place in failed:
        off, error = single.get(place) or _attempt(run, outputs, {place: 1}, worst)
        found[place] = _judged(off, noise, error)
    return {place: found[place] for place in places}


def culprits(
    run: Run,
    clean: Sequence[Array],
    place: str,
    arguments: Sequence[str],
    size: int,
    batch_dim: int = 0,
    worst: Callable[[float], float] = float,
) -> tuple[str, ...]:
    """Arguments that go round a place: the outputs change with them though the place returns what it did.

    Args:
        run, clean, size, batch_dim, worst: As for `prove`.
        place: One that was refuted.
        arguments: Those that hold the batch.
    """
    outputs = Outputs(clean, size, batch_dim)
    if not outputs.apart:
        return ()
    noise = outputs.off_from_clean(run, worst)
    found = []
    for name in arguments:
        off, _ = _attempt(run, outputs, {Argument(name, place): 1}, worst, rolled=False)
        if off > max(WRONG, 20 * noise):
            found.append(name)
    return tuple(found)


class Outputs:
    """The outputs of a clean forward, and how far others are from them.

    Attributes:
        apart: Whether any output differs between samples, so that a swap can be seen.
        why_not: The reason if none does.
    """

    def __init__(self, clean: Sequence[Array], size: int, batch_dim: int) -> None:
        self.size = size
        self.clean = [_finite(x) for x in clean]
        axes = [batch_axes(x, size, batch_dim) for x in self.clean]
        self.distances = [
            {some: distance for some in _subsets(own) if (distance := self._distance(x, some))}
            for x, own in zip(self.clean, axes, strict=True)
        ]
        self.apart = any(self.distances)
        self.why_not = (
            "the outputs do not differ between the samples"
            if any(axes)
            else "no output has the samples on an axis"
        )

    def off(self, got: Sequence[Array], by: int) -> float:
        """The largest error of outputs against the clean ones rolled by a number of samples.

        Where several axes of an output may be the batch's, those that fit: no others fit by chance. Scores of each
        sample with each other, as CLIP's, have the batch on two.
        """
        if len(got) != len(self.clean):
            return np.inf
        worst = 0.0
        for x, clean, distances in zip(got, self.clean, self.distances, strict=True):
            if not distances:
                continue
            if x.shape != clean.shape and not np.iscomplexobj(x):
                return np.inf
            x = _finite(x)
            worst = max(
                worst,
                min(
                    float(np.abs(x - self._rolled(clean, by, axes)).max()) / distance
                    for axes, distance in distances.items()
                ),
            )
        return worst

    def off_from_clean(self, run: Run, worst: Callable[[float], float]) -> float:
        """The distance of a second clean forward from the first: the noise floor."""
        return _attempt(run, self, {}, worst)[0]

    def _rolled(self, x: Array, by: int, axes: Sequence[int]) -> Array:
        return np.roll(x, [by * (x.shape[axis] // self.size) for axis in axes], axes)

    def _distance(self, x: Array, axes: Sequence[int]) -> float:
        """The distance between samples; 0 where only rounding tells them apart."""
        others = [np.abs(x - self._rolled(x, by, axes)).max() for by in range(1, self.size) if x.size]
        distance = float(max(others, default=0.0))
        return distance if distance > 1e-7 * float(np.abs(x).max(initial=0.0)) else 0.0


def _attempt(
    run: Run,
    outputs: Outputs,
    shifts: Mapping[Hashable, int],
    worst: Callable[[float], float],
    *,
    rolled: bool = True,
) -> tuple[float, Exception | None]:
    """How far the outputs are off, over all processes, and what was raised here."""
    off, raised = np.inf, None
    try:
        off = outputs.off(run(shifts), sum(shifts.values()) if rolled else 0)
    except Exception as error:  # the model's own code runs here
        raised = error
    return worst(off), raised


class NotOnce(Exception):
    """A place did not run exactly once in a forward, so that it can be swapped."""


def _judged(off: float, noise: float, error: Exception | None) -> Proof:
    if isinstance(error, NotOnce):
        return Proof("undecided", str(error), off, noise)
    if error is not None:
        return Proof("undecided", f"{type(error).__name__}: {str(error)[:200]}", off, noise, raised=True)
    text = f"with other samples' features there, the output is off by {off:.2g} of the samples' distance"
    if not noise < NOISY:
        text = f"the model treats samples differently by their position in the batch (by {noise:.2g}), {text}"
        return Proof("undecided", text, off, noise)
    if off <= max(SURE, 5 * noise):
        return Proof("yes", "", off, noise)
    return Proof("no" if off > max(WRONG, 20 * noise) else "undecided", text, off, noise)


def _groups(places: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    """As few groups as possible, of at most so many places."""
    for start in range(0, len(places), max(most, 1)):
        yield places[start : start + max(most, 1)]


def _finite(x: Array) -> Array:
    """In float64, with what is infinite or no number as a large one, so that equal ones are equal."""
    if np.iscomplexobj(x):
        x = np.stack([x.real, x.imag], -1)
    return np.clip(np.nan_to_num(x.astype(np.float64), nan=1e30, posinf=1e30, neginf=-1e30), -1e6, 1e6)


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All but the empty one, of the first few."""
    for count in range(1, min(len(axes), 3) + 1):
        yield from combinations(axes[:3], count)


def batch_axes(x: Array, size: int, batch_dim: int) -> list[int]:
    """Axes that may hold the samples: the model's own, also in blocks of several rows each, or one of their number."""
    axes = [axis for axis, length in enumerate(x.shape) if length == size]
    blocks = x.ndim > batch_dim and x.shape[batch_dim] and x.shape[batch_dim] % size == 0
    return axes or ([batch_dim] if blocks else [])
