"""Permutations of points whose partners are near, drawn by exchanges along curves that fill the space."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from mixlayers._core.plan.exchanges import Permutation

LINES = 5
"""How often the points stand in a line; up to 8 times more where they are few, and each line costs little."""

FACING = (0, 1, -2, 4, -8)
"""In a line every second point faces one of the others after another: so many places on."""

ACCEPTED = 0.9
"""Share of the exchanges that Metropolis's rule would make: of equal points every one, whose number were certain."""

WIDTH = 2.5
"""Of a cell, in bandwidths: two points of it are 2.5^2 / 6, about 1, apart in the square, as the law has partners."""

CROWD = 0.2
"""So many points, e^(0.2 D) or more, are a crowd, random to begin with. Fewer would by the law rather keep themselves:
two of a cell are far from each other in many dimensions. Where the law is between, so is what the exchanges reach."""

BITS = 12
"""Of a coordinate in Morton's order."""


def exchange_near(rng: np.random.Generator, points: npt.NDArray[np.float64]) -> Permutation:
    """A permutation of law exp(-sum |points - points[perm]|^2 / 2), approximately, by exchanges.

    It begins random within crowded cells, which are about as wide as partners will be apart. Then, some times, the
    points stand in a line in which neighbours are near each other in space; every second one faces some of the others,
    and the two exchange partners by Metropolis's rule.

    Args:
        rng: The step's stream.
        points: (N, D), in bandwidths.
    """
    size = len(points)
    if size < 2:
        return np.arange(size)
    centred = points.T - points.mean(0)[:, None]
    lines, perm = _lines(rng, centred, LINES + min(1024 // size, 8))
    # the last row holds indices, which change places with the points; of 64ths of a bandwidth float32 is exact, and
    # their products where it matters, so that every processor decides alike
    wide = size >= 2**24 or float(np.abs(centred).max()) > 1e4
    rows = np.vstack([np.rint(centred * 64.0) / 64.0, np.arange(size)]).astype(
        np.float64 if wide else np.float32
    )
    half = size // 2
    some = FACING[:4] if points.shape[1] > 5 else FACING  # each costs as much as there are numbers
    places = [places for places in some if abs(places) < half]
    bounds = _bounds()[rng.integers(2**16, size=(len(lines), len(places), half), dtype=np.uint16)]
    for line, bound in zip(lines, bounds, strict=True):
        faced = line[: 2 * half].reshape(half, 2).T.ravel()  # every second one, then the others
        own, theirs = rows[:-1].take(faced, axis=1), rows.take(perm[faced], axis=1)
        for on, atmost in zip(places, bound, strict=True):
            pairs, start, other = half - abs(on), max(-on, 0), half + max(on, 0)
            first, second = slice(start, start + pairs), slice(other, other + pairs)
            # |x_i - q_j|^2 + |x_j - q_i|^2 - |x_i - q_i|^2 - |x_j - q_j|^2 = 2 (x_i - x_j) . (q_i - q_j)
            change = theirs[:, first] - theirs[:, second]
            rise = np.einsum("dj,dj->j", own[:, first] - own[:, second], change[:-1])
            change *= rise < atmost[:pairs]
            theirs[:, first] -= change
            theirs[:, second] += change
        perm[faced] = theirs[-1]
    return perm


@cache
def _bounds() -> npt.NDArray[np.float32]:
    """How far a sum may rise in an exchange: 2**16 equally likely quantiles of Exp(1), or -inf for no exchange.

    Sums are of 2**12ths; a bound lies between two of them.
    """
    share = (np.arange(2**16) + 0.5) / 2**16 / ACCEPTED
    quantiles = (np.floor(-np.log1p(-np.minimum(share, 0.999999)) * 2.0**12) + 0.5) / 2.0**12
    return np.where(share < 1.0, quantiles, -np.inf).astype(np.float32)


def _lines(
    rng: np.random.Generator, coordinates: npt.NDArray[np.float64], number: int
) -> tuple[npt.NDArray[np.intp], Permutation]:
    """So many orders of points (D, N) along a curve, and a permutation to begin with.

    The curve is Morton's, each time turned and shifted at random. More than five dimensions are seen along five random
    directions, and cells are narrower for what is not seen.
    """
    dimensions, size = coordinates.shape
    axes = min(dimensions, 5)
    directions = np.linalg.qr(rng.normal(size=(number, dimensions, axes)))[0].transpose(0, 2, 1)
    turned = directions @ coordinates
    turned -= turned.min(2, keepdims=True)
    width = WIDTH * (axes / dimensions) ** 0.5
    # a cell is 2**power of the curve's steps wide; half of the numbers are room for the shift
    power = min(math.floor(math.log2(2.0 ** (BITS - 1) * width / max(float(turned.max()), 1e-300))), BITS - 1)
    turned *= 2.0**power / width
    turned += rng.random((number, axes, 1)) * 2.0 ** (BITS - 1)
    steps = _spread(axes)[turned.astype(np.int32)]
    steps <<= np.arange(axes, dtype=np.uint64)[:, None]
    along = np.bitwise_or.reduce(steps, axis=1)
    if power < 0:  # some are so far away that the curve's steps are wider than a cell: chance orders the rest
        order = rng.permuted(np.tile(np.arange(size), (number, 1)), axis=1)
        lines = np.argsort(np.take_along_axis(along, order, axis=1), axis=1)
        return np.take_along_axis(order, lines, axis=1), np.arange(size)
    lines = np.argsort(along, axis=1)
    cells = along[0, lines[0]] >> np.uint64(axes * power)
    return lines, _shuffled(rng, lines[0], cells, math.exp(CROWD * dimensions))


def _shuffled(
    rng: np.random.Generator, line: npt.NDArray[np.intp], cells: npt.NDArray[np.uint64], least: float
) -> Permutation:
    """A permutation that is random within each cell of at least so many points; `cells` are sorted, along the line."""
    start = np.flatnonzero(np.diff(cells, prepend=cells[0] + np.uint64(1)))
    counts = np.diff(start, append=len(cells))
    crowded = np.repeat(counts >= least, counts)
    perm, members = np.arange(len(line)), line[crowded]
    order = rng.permutation(len(members))
    perm[members] = members[order[np.argsort(cells[crowded][order], kind="stable")]]
    return perm


@cache
def _spread(axes: int) -> npt.NDArray[np.uint64]:
    """Numbers of `BITS` bits, with room between the bits for those of the other axes."""
    numbers, bits = np.arange(2**BITS, dtype=np.uint64), np.arange(BITS, dtype=np.uint64)
    apart = (numbers[:, None] >> bits & np.uint64(1)) << bits * np.uint64(axes)
    spread: npt.NDArray[np.uint64] = np.bitwise_or.reduce(apart, axis=1)
    return spread
