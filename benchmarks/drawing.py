"""Time what is drawn on the host for a batch, in NumPy alone, as the batch grows.

    python benchmarks/drawing.py [--quick] [--out results.json]

Milliseconds for 1,000 samples of a large batch; promised is one, where what is drawn does not grow with the feature.
Masks and noise of each sample's own do: their rows come again as microseconds for a million of the feature's numbers.
The processor's time, all on one core: a loaded machine shows nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from time import process_time

import numpy as np
from parts.report import main
from parts.timing import Row, Scale, Spread, interleave

from mixlayers import Across, Apart, DropBlock, Erasing, Method, Mixup, Near
from mixlayers._core.plan.pairs import Policy

PAIRS: list[tuple[Policy, int]] = [
    ("random", 0),
    ("derangement", 0),
    ("same_class", 0),
    ("different_class", 0),
    (Across(), 0),
    (Apart(3), 0),
    (Near("label", 0.1), 1),
    (Near("label", 0.2), 2),
    (Near("label", 0.5), 3),
    (Near("label", 1.0), 8),
]
"""With how many numbers a label has, standard normal ones; 0: a class of ten."""

REPLACED: list[tuple[Method, tuple[int, ...]]] = [
    (Erasing(), (3, 224, 224)),
    (Erasing(value="pixel"), (3, 32, 32)),
    (Erasing(value="pixel"), (3, 224, 224)),
    (DropBlock(), (1024, 14, 14)),
    (DropBlock(), (256, 56, 56)),
]


timed = partial(interleave, clock=process_time)


def pair_rows(scale: Scale) -> Iterator[Row]:
    """Partners, in a usual batch and in a large one."""
    for size, number, unit, limit in (
        (scale.batch, 1e-3, "us a batch", None),
        (128 * scale.batch, 128 * scale.batch / 1000, "ms / 1,000", 1.0),
    ):
        work = {f"{policy}, {numbers} numbers": _pairs(policy, numbers, size) for policy, numbers in PAIRS}
        for name, times in timed(work, scale.rounds).items():
            yield Row("pairs", f"{name}, batch {size}", unit, _each(times, number), limit=limit)


def _pairs(policy: Policy, numbers: int, size: int) -> Callable[[], object]:
    rng, steps, method = np.random.default_rng(0), count(), Mixup(pairs=policy)
    labels = rng.integers(10, size=size)
    near = {"label": rng.normal(size=(size, numbers or 1)), "domain": rng.integers(4, size=size)}
    return lambda: method.plan(step=next(steps), batch_size=size, labels=labels, near=near)


def replaced_rows(scale: Scale) -> Iterator[Row]:
    """Masks and noise, in batches of the recipe's size."""
    work = {f"{method}, {shape}": _replaced(method, (scale.batch, *shape)) for method, shape in REPLACED}
    for (name, times), (_, shape) in zip(timed(work, scale.rounds).items(), REPLACED, strict=True):
        yield Row("mask", name, "ms / 1,000", _each(times, scale.batch / 1000))
        yield Row("mask", name, "us / 10^6 numbers", _each(times, scale.batch * np.prod(shape) / 1e9))


def _replaced(method: Method, shape: tuple[int, ...]) -> Callable[[], object]:
    steps = count()
    return lambda: method.plan(step=next(steps), batch_size=shape[0], places=("layer",)).blend(shape)


def _each(times: Sequence[float], number: float) -> Spread:
    """Milliseconds for each of so many."""
    return Spread.of([1e3 * time / number for time in times])


if __name__ == "__main__":
    main({"pairs": pair_rows, "mask": replaced_rows}, ("numpy",))
