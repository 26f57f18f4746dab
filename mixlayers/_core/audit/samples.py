"""A few samples of a batch, for experiments: those that differ most in what is not floating-point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FEW: Final = 4
"""Samples in an experiment: three places can be told apart in one forward."""

_LOOKED_AT: Final = 256


def differing(arguments: Sequence[npt.NDArray[Any]], size: int, few: int = FEW) -> list[int]:
    """The indices of the samples to take: lengths, masks and ids as different as the batch has them.

    From the first sample on, the one is taken that is farthest from those that were. Each argument counts by the
    share of its entries that differ, so that masks count beside ids.

    Args:
        arguments: Whole numbers and bools, each with the samples on its first axis.
        size: Samples in the batch; the first 256 are looked at.
        few: How many to take.
    """
    looked_at = min(size, _LOOKED_AT)
    rows = [x[:looked_at].reshape(looked_at, -1) for x in arguments if x.size]
    if looked_at <= few or not rows:
        return list(range(min(size, few)))
    taken = [0]
    nearest = np.full(looked_at, np.inf)
    while len(taken) < few:
        nearest = np.minimum(nearest, sum((x != x[taken[-1]]).mean(1) for x in rows))
        nearest[taken] = -1.0
        taken.append(int(nearest.argmax()))
    return sorted(taken)
