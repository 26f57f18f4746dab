"""IEBN and RBN by the compiled passes, for NumPy's arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers_chainer._iebn.given import Statistics
from mixlayers_chainer._iebn.join import joint_moments, joint_sum
from mixlayers_chainer._iebn.passes import Array, Layout
from mixlayers_native import _iebn as passes
from mixlayers_native._library import library


def takes(flat: Array, parameters: Sequence[Array], statistics: Statistics) -> bool:
    """Whether there are passes for a feature, planes or rows, and all that belongs to it."""
    vectors = [*parameters, *(t for t in (statistics.mean, statistics.var) if t is not None)]
    return (
        library() is not None
        and type(flat) is np.ndarray
        and flat.dtype.name in passes.KINDS
        and all(t.dtype == flat.dtype and t.flags.c_contiguous for t in vectors)
    )


def forward(
    norm: type[passes.Forward],
    flat: Array,
    layout: Layout,
    parameters: Sequence[Array],
    statistics: Statistics,
) -> tuple[passes.Forward, Array]:
    """The backward's context, which is of the norm's class, and the output in the layout.

    Updates the running statistics.
    """
    y, (size, width) = np.empty_like(flat), (layout.flat[0], layout.flat[3 - layout.space])
    found = norm(
        passes.Layout((size, width, layout.length), layout.space == 1, flat.dtype.name),
        *(flat.ctypes.data, y.ctypes.data, _addresses(parameters)),
        _addresses((statistics.mean, statistics.var)),
        batch=statistics.batch,
        factor=statistics.factor,
        eps=statistics.eps,
        join=None if statistics.comm is None else _join_moments(statistics.comm),
    )
    return found, y


def backward(
    found: passes.Forward,
    flat: Array,
    gradient: Array,
    parameters: Sequence[Array],
    statistics: Statistics,
    *,
    wants_x: bool,
) -> tuple[Array | None, list[Array]]:
    """The gradients of the feature, in its layout, and of the parameters."""
    gradient = np.ascontiguousarray(gradient, flat.dtype)
    dx, learned = np.empty_like(flat) if wants_x else None, [np.empty_like(each) for each in parameters]
    found.backward(
        *(flat.ctypes.data, gradient.ctypes.data, None if dx is None else dx.ctypes.data),
        *(_addresses(parameters), _addresses(learned)),
        None if statistics.comm is None else _join_sums(statistics.comm),
    )
    return dx, learned


def _addresses(arrays: Iterable[Array | None]) -> list[int]:
    return [0 if array is None else array.ctypes.data for array in arrays]


def _join_moments(comm: Any) -> passes.Join:
    def join(own: npt.NDArray[np.float64], count: float) -> float:
        own[0], own[1], whole = joint_moments(own[0], own[1], count, comm)
        return whole

    return join


def _join_sums(comm: Any) -> passes.Join:
    def join(own: npt.NDArray[np.float64], count: float) -> float:
        own[...] = joint_sum(own, comm)
        return count

    return join
