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


def exchange_near(rng: np.random.Generator, points: npt.NDArray[np.float64]) -> Permutation:
    """A permutation of law exp(-sum |points - points[perm]|^2 / 2), approximately, by exchanges from the identity.

    In each round the samples stand in a line in which neighbours are near each other in space; those 1, 2, 4, 8 ...
    places apart may exchange partners, with the law's own probability of the two ways.

    Args:
        rng: The step's stream.
        points: (N, D), in bandwidths.
    """
    size, dimensions = points.shape
    perm, coordinates = np.arange(size), np.ascontiguousarray(points.T)
    # beyond three dimensions a line shows three random ones alone: neighbours are near less often
    rounds = (8 if dimensions <= 3 else 24) + 64 // size if size > 1 else 0
    for _ in range(rounds):
        line = np.argsort(_curve(rng, coordinates))
        line = np.roll(line, int(rng.integers(size)))
        own, here = perm[line], coordinates[:, line]
        theirs = coordinates[:, own]
        for apart in (2**power for power in range((size // 2).bit_length())):
            # views: the two of each pair are at 0 and 1 of the last axis but one; some at the end have none
            paired = size - size % (2 * apart)
            x, q = (a[:, :paired].reshape(dimensions, -1, 2, apart) for a in (here, theirs))
            partner = own[:paired].reshape(-1, 2, apart)
            # |x_i - q_j|^2 + |x_j - q_i|^2 - |x_i - q_i|^2 - |x_j - q_j|^2 = 2 (x_i - x_j) . (q_i - q_j)
            change = q[:, :, 0] - q[:, :, 1]
            rise = np.einsum("dij,dij->ij", x[:, :, 0] - x[:, :, 1], change)
            made = rng.random(rise.shape) * (1.0 + np.exp(np.minimum(rise, 50.0))) < 1.0
            change *= made
            q[:, :, 0] -= change
            q[:, :, 1] += change
            moved = (partner[:, 0] - partner[:, 1]) * made
            partner[:, 0] -= moved
            partner[:, 1] += moved
        perm[line] = own
    return perm


def _curve(rng: np.random.Generator, coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    """Where points (D, N) lie on a curve that fills the space: Morton's order, turned and shifted at random.

    More than three dimensions are seen along three random directions.
    """
    dimensions = len(coordinates)
    axes = min(dimensions, 3)
    turned = np.linalg.qr(rng.normal(size=(dimensions, axes)))[0].T @ coordinates
    turned -= turned.min(1, keepdims=True)
    bits = 30 // axes
    unit = 2.0 ** (bits - 1) / max(float(turned.max()), 1e-300)
    cells = (turned * unit + rng.random((axes, 1)) * 2.0 ** (bits - 1)).astype(np.uint32)
    place = np.zeros(cells.shape[1], dtype=np.uint32)
    for bit in range(bits):
        for axis in range(axes):
            place |= ((cells[axis] >> np.uint32(bit)) & np.uint32(1)) << np.uint32(bit * axes + axis)
    return place
