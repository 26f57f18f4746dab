"""Counter-based random streams: the state of a run is its step number.

A stream is addressed by (seed, rank, step, purpose) and can be opened again at any time, in any
process and under any framework. No global generator is read or moved.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mixlayers._core.checks import check_integer

PLAN: Final = 0
"""Purpose of the stream that draws lam, perm, layer and method."""

MASK: Final = 1
"""Purpose of the stream that draws masks, once the feature's shape is known."""

AUGMENT: Final = 3
"""Purpose of the stream that draws one image's augmentation; its step is the epoch, its rank the image's index."""

ORDER: Final = 2
"""Purpose of the stream that shuffles a data set; its step is the epoch."""

_PURPOSES: Final = 4

_LAST: Final = 2**64 - 1


def worker_seed(seed: int, worker: tuple[int, ...] | None) -> int:
    """The seed of a loader's worker process, by what tells it and its epoch from others; None: the main process."""
    if worker is None:
        return seed
    return int(np.random.SeedSequence([seed, *worker]).generate_state(1, np.uint64)[0])


def stream(seed: int, rank: int, step: int, purpose: int = PLAN, place: int = 0) -> np.random.Generator:
    """Open the random stream of one step.

    Args:
        seed: The run's seed, in [0, 2**64).
        rank: The process's number; equal ranks draw equal plans.
        step: The step's number, from 0.
        purpose: Which of the step's independent streams.
        place: Which place's, from 1 on, of a step that acts at several; 0: the whole step's.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If a number is negative or does not fit in 64 bits.
    """
    key, *numbers = (
        check_integer(name, value, 0, _LAST, "pass a non-negative integer of at most 64 bits.")
        for name, value in (("seed", seed), ("step", step), ("rank", rank))
    )
    # a list of such integers, one of them of 2**63 or more, would become float64: streams 2**11 apart would be one
    counter = np.array([0, purpose + _PURPOSES * place, *numbers], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
