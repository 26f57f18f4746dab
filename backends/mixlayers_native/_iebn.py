"""IEBN's forward and backward by the compiled passes, on addresses of a framework's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mixlayers_native._library import library

KINDS: Final = ("float32", "bfloat16", "float64")
"""The elements that there are passes for. Parameters and statistics are float32, or float64 for float64."""

Join = Callable[[npt.NDArray[np.float64], float], float]
"""Joins the sums (2, C) of several processes in place, given the own number of values; returns all processes'."""

_FIELDS = {
    ctypes.c_long: ("n", "c", "l"),
    ctypes.c_int: ("rows", "threads", "batch"),
    ctypes.c_void_p: (
        *("x", "g", "y", "weight", "bias", "weight_readjust", "bias_readjust", "running_mean", "running_var"),
        *("kept", "room", "sums", "on_weight", "on_bias", "on_weight_readjust", "on_bias_readjust"),
    ),
    ctypes.c_double: ("count", "eps", "factor", "correction"),
}


class _Call(ctypes.Structure):
    """`struct iebn_call`."""

    _fields_: ClassVar[Any] = [(name, kind) for kind, names in _FIELDS.items() for name in names]


@dataclass(frozen=True)
class Layout:
    """A feature's layout in memory.

    Attributes:
        shape: (N, C, L).
        rows: Whether the channels are last, (N, L, C).
        kind: Of its elements, one of KINDS.
        threads: How many may work on it.
    """

    shape: tuple[int, int, int]
    rows: bool
    kind: str
    threads: int = 1

    @property
    def real(self) -> Any:
        """NumPy's dtype of what is computed."""
        return np.float64 if self.kind == "float64" else np.float32

    def room(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
        """Room for a call: the sums that processes may join, mean, squares, average and slope (4, C); for passes."""
        n, channels, _ = self.shape
        return np.empty((4, channels)), np.empty(3 * n * channels + 2 * channels, self.real)


class Forward:
    """One forward, and what its backward needs: a number a sample and channel, three a channel.

    Attributes:
        kept: These numbers.

    Args:
        layout: Of x.
        x, y: Addresses: of the input, and of the output to be written.
        parameters: Addresses of weight, bias (0: none), weight_readjust and bias_readjust, (C,) each; of those that a
            subclass has beside them.
        running: Addresses of the running mean and variance (C,), updated where `batch`; 0: there are none.
        batch: Whether the batch's own statistics normalise, or the running ones.
        factor: Share of the new batch in the running statistics.
        eps: Added to the variance.
        correction: What is taken from the number of values in the running variance: 1: the unbiased one, or 0.
        join: Joins mean and squares with other processes'.
    """

    def __init__(
        self,
        layout: Layout,
        x: int,
        y: int,
        parameters: Sequence[int],
        running: Sequence[int],
        *,
        batch: bool,
        factor: float,
        eps: float,
        correction: int = 1,
        join: Join | None = None,
    ) -> None:
        self.layout, self.batch, self.eps = layout, batch, eps
        n, channels, length = layout.shape
        self.count = float(n * length)
        self.kept = np.empty(n * channels + 3 * channels, layout.real)
        sums, room = layout.room()
        call = _Call(
            *(*layout.shape, layout.rows, layout.threads, batch, x, 0, y, *parameters[:4], *running),
            *(self.kept.ctypes.data, room.ctypes.data, sums.ctypes.data, 0, 0, 0, 0),
            *(self.count, eps, factor, correction),
        )
        passes(layout.kind).sums(ctypes.byref(call))
        self._map(call, sums, room, parameters, running, join)

    def _map(
        self,
        call: Any,
        sums: npt.NDArray[np.float64],
        room: npt.NDArray[Any],
        parameters: Sequence[int],
        running: Sequence[int],
        join: Join | None,
    ) -> None:
        """The output, given the sums; arguments as `__init__` and `Layout.room` have them."""
        if self.batch and join is not None:
            call.count = self.count = join(sums[:2], self.count)
        passes(self.layout.kind).map(ctypes.byref(call))

    def backward(
        self,
        x: int,
        g: int,
        dx: int | None,
        parameters: Sequence[int],
        learned: Sequence[int],
        join: Join | None = None,
    ) -> None:
        """The gradients.

        Args:
            x, parameters: As in the forward.
            g: Address of the output's gradient, which lies as x does.
            dx: Address of x's gradient, to be written; None: not wanted.
            learned: Addresses of the parameters' gradients, (C,) each, to be written.
            join: Joins the batch's sums with other processes'.
        """
        layout = self.layout
        sums, room = layout.room()
        call = _Call(
            *(*layout.shape, layout.rows, layout.threads, self.batch, x, g, dx or 0, *parameters[:4], 0, 0),
            *(self.kept.ctypes.data, room.ctypes.data, sums.ctypes.data, *learned[:4], self.count, self.eps),
        )
        self._trace(call, sums, room, learned, join, wants_x=dx is not None)

    def _trace(
        self,
        call: Any,
        sums: npt.NDArray[np.float64],
        room: npt.NDArray[Any],
        learned: Sequence[int],
        join: Join | None,
        *,
        wants_x: bool,
    ) -> None:
        """The gradients; arguments as `backward` and `Layout.room` have them; an empty x is wanted at address 0."""
        run = passes(self.layout.kind)
        run.products(ctypes.byref(call))
        if self.batch and wants_x and join is not None:
            join(sums[2:], self.count)
        if wants_x:
            run.combine(ctypes.byref(call))

    def statistics(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The mean and the biased variance that normalise, (C,) each."""
        about, off, rstd = self.kept[-3 * self.layout.shape[1] :].reshape(3, -1)
        return about + off, rstd**-2.0 - self.eps


def infer(
    layout: Layout, x: int, y: int, parameters: Sequence[int], running: Sequence[int], eps: float
) -> None:
    """The output with the running statistics, for nobody to differentiate; arguments as `Forward` has them."""
    n, channels, _ = layout.shape
    kept, (sums, room) = np.empty(n * channels + 3 * channels, layout.real), layout.room()
    call = _Call(
        *(*layout.shape, layout.rows, layout.threads, False, x, 0, y, *parameters, *running),
        *(kept.ctypes.data, room.ctypes.data, sums.ctypes.data, 0, 0, 0, 0, 0.0, eps),
    )
    passes(layout.kind).infer(ctypes.byref(call))


class _Passes(NamedTuple):
    """The library's functions for one type of element."""

    sums: Any
    map: Any
    infer: Any
    products: Any
    combine: Any
    affine: Any
    add: Any
    blend: Any


@cache
def passes(kind: str) -> _Passes:
    """The library's functions."""
    found = library()
    return _Passes(*(getattr(found, f"iebn_{name}_{kind}") for name in _Passes._fields))
