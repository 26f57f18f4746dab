"""Means over space, the batch's mean and deviation, in NumPy or CuPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from chainer import backend

from mixlayers_chainer._iebn.given import Statistics
from mixlayers_chainer._iebn.join import joint_moments
from mixlayers_chainer._iebn.passes import Array, Layout, moments, sums


@dataclass
class Moments:
    """The moments of x that the forward needs.

    Attributes:
        gap: Its means over space (N, K).
        centre, residual: (K,) each; the mean to normalise with is their sum, more digits than one number has.
        rstd: 1 / standard deviation, (K,).
        count: Of how many values a channel they are; of all ranks', where they are taken together.
    """

    gap: Array
    centre: Array
    residual: Array
    rstd: Array
    count: float


def measure(flat: Array, layout: Layout, statistics: Statistics, kind: Any) -> Moments:
    """Means over space, mean and deviation; updates the running statistics.

    Args:
        flat: x as planes or rows.
        layout: The layout.
        statistics: What to normalise with.
        kind: The dtype to compute in.
    """
    total = sums(flat, layout, kind)
    gap = total / max(layout.length, 1)
    if not statistics.batch:
        mean, var = statistics.mean.reshape(-1), statistics.var.reshape(-1)
        return Moments(gap, *_split(mean, kind), _rstd(var, statistics.eps, kind), layout.count)
    count: float = layout.count
    centre = total.sum(axis=0) / max(layout.count, 1)  # to a few digits; the rest is in what is left
    first, second = moments(flat, centre, layout)
    left = first.sum(axis=0, dtype=np.float64) / max(layout.count, 1)
    mean = centre + left
    squares = second.sum(axis=0, dtype=np.float64) - layout.count * left * left
    if statistics.comm is not None:
        mean, squares, count = joint_moments(mean, squares, count, statistics.comm)
    var = squares.clip(0.0) / max(count, 1)
    if statistics.mean is not None and count:  # an empty batch tells nothing
        update(statistics, mean.reshape(layout.channels), var.reshape(layout.channels), count)
    return Moments(gap, *_split(mean, kind), _rstd(var, statistics.eps, kind), count)


def _split(mean: Array, kind: Any) -> tuple[Array, Array]:
    """The mean as the sum of two numbers of a kind."""
    centre = mean.astype(kind)
    return centre, (mean - centre).astype(kind)


def _rstd(var: Array, eps: float, kind: Any) -> Array:
    xp = backend.get_array_module(var)
    return (1.0 / xp.sqrt(var.astype(np.float64) + eps)).astype(kind)


def update(statistics: Statistics, mean: Array, var: Array, count: float) -> None:
    """The running statistics, in the steps of Chainer's own batch normalisation."""
    factor, adjust = statistics.factor, count / max(count - 1.0, 1.0)
    running_mean, running_var = statistics.mean, statistics.var
    running_mean *= 1 - factor
    running_mean += factor * mean
    running_var *= 1 - factor
    running_var += factor * adjust * var
