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
    allowed: Callable[[Permutation, Permutation], npt.NDArray[np.bool_]],
    among: Permutation,
) -> None:
    """Let random samples hand on their partners, in place, wherever no more pairs become forbidden.

    Each proposal and its reverse are equally likely, so the law tends to the uniform one over the permutations that
    are reached. Two samples change partners, and three hand them on: where every class is turned onto another, or
    distances are near their limit, no exchange of two is allowed.

    Args:
        rng: The step's stream.
        perm: Partners, (N,), changed in place.
        allowed: Whether sample i may have partner p, for arrays of both.
        among: The samples that take part, indices.
    """
    sweeps = 8 + 192 // max(len(among), 1)  # of few samples the same share of refusals leaves fewer ways
    for sweep in range(2 * sweeps):
        ways = 2 + sweep % 2
        order = rng.permutation(among)
        members = order[: len(order) - len(order) % ways].reshape(-1, ways).T
        if not members.size:
            continue
        before = perm[members]
        after = np.roll(before, 1, axis=0)
        kept = allowed(members, after).sum(0) >= allowed(members, before).sum(0)
        kept &= rng.random(kept.shape) < ACCEPTED
        perm[members[:, kept]] = after[:, kept]


def exchange_near(
    rng: np.random.Generator, points: npt.NDArray[np.float64], sweeps: int = 200
) -> Permutation:
    """A permutation of law exp(-sum |points - points[perm]|^2 / 2), by Metropolis exchanges.

    Args:
        rng: The step's stream.
        points: (N, D), in bandwidths.
        sweeps: How often each sample offers its partner to another that is near it in some direction.
    """
    size, dimensions = points.shape
    perm, even = np.arange(size), size - size % 2
    for _ in range(sweeps):
        along = points @ rng.normal(size=dimensions) / dimensions**0.5
        order = np.argsort(along + rng.normal(size=size))[size - even :][:even]
        i, j = order[0::2], order[1::2]
        # |p_i - q_j|^2 + |p_j - q_i|^2 - |p_i - q_i|^2 - |p_j - q_j|^2 = 2 (p_i - p_j) . (q_i - q_j)
        rise = ((points[i] - points[j]) * (points[perm[i]] - points[perm[j]])).sum(1)
        kept = np.log1p(-rng.random(len(i))) < -rise
        i, j = i[kept], j[kept]
        perm[i], perm[j] = perm[j], perm[i]
    return perm
