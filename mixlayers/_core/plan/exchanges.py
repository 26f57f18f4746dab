"""Permutations under a condition, drawn by random exchanges of partners, many at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Permutation = npt.NDArray[np.int64]

ACCEPTED = 0.8
"""If every allowed exchange were made, their number, and so the permutation's sign, would often be certain."""


def exchange_freely(
    rng: np.random.Generator,
    perm: Permutation,
    kinds: npt.NDArray[np.integer],
    allowed: Callable[[npt.NDArray[np.integer], npt.NDArray[np.integer]], npt.NDArray[np.bool_]],
    among: Permutation,
) -> None:
    """Let random samples hand on their partners, in place, wherever no more pairs become forbidden.

    Each proposal and its reverse are equally likely, so the law tends to the uniform one over the permutations that
    are reached. Two samples change partners, and three hand them on: where every class is turned onto another, or
    distances are near their limit, no exchange of two is allowed.

    Args:
        rng: The step's stream.
        perm: Partners, (N,), changed in place.
        kinds: What decides of each sample, (N,): its class, its place.
        allowed: Whether a sample of one kind may have a partner of the other, for arrays of both.
        among: The samples that take part, indices.
    """
    sweeps = 8 + 192 // max(len(among), 1)  # of few samples the same share of refusals leaves fewer ways
    for sweep in range(2 * sweeps):
        ways = 2 + sweep % 2
        order = rng.permutation(among)
        members = np.ascontiguousarray(order[: len(order) - len(order) % ways].reshape(-1, ways).T)
        if not members.size:
            continue
        before = perm[members]
        own, theirs = kinds[members], kinds[before]
        kept = _count(allowed(own, _handed_on(theirs))) >= _count(allowed(own, theirs))
        kept &= rng.random(len(kept)) < ACCEPTED
        perm[members] = np.where(kept, _handed_on(before), before)


def _handed_on(rows: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Each row in the place of the next, the last in the first's: `np.roll` of two or three in half its time."""
    return np.concatenate([rows[-1:], rows[:-1]])


def _count(true: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """How many of two or three rows hold."""
    count: npt.NDArray[np.uint8] = np.add.reduce(true, axis=0, dtype=np.uint8)
    return count
