"""IEBN's and RBN's forward and backward by the compiled passes, on addresses of a framework's memory."""

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
        *("x", "g", "y", "weight", "bias", "weight_readjust", "bias_readjust", "weight_recenter"),
        *("running_mean", "running_var", "kept", "room", "sums"),
        *("on_weight", "on_bias", "on_weight_readjust", "on_bias_readjust", "on_weight_recenter"),
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
    """One forward of IEBN, and what its backward needs: a number a sample and channel, three a channel.

    Attributes:
        kept: These numbers.

    Args:
        layout: Of x.
        x, y: Addresses: of the input, and of the output to be written.
        parameters: Addresses of weight, bias (0: none), weight_readjust and bias_readjust, (C,) each; in RBN of
            weight_recenter too.
        running: Addresses of the running mean and variance (C,), updated where `batch`; 0: there are none.
        batch: Whether the batch's own statistics normalise, or the running ones.
        factor: Share of the new batch in the running statistics.
        eps: Added to the variance.
        correction: What is taken from the number of values in the running variance: 1: the unbiased one, or 0.
        join: Joins mean and squares with other processes'.
    """

    norm: ClassVar[str] = "iebn"

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
        arrays, numbers = (self.kept, room, sums), (self.count, eps, factor, correction)
        call = _call(layout, batch, (x, 0, y), parameters, running, arrays, (), numbers)
        run = passes(self.norm, layout.kind)
        run.sums(ctypes.byref(call))
        if batch and join is not None:
            call.count = self.count = join(sums[:2], self.count)
        run.map(ctypes.byref(call))

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
        layout, wants_x = self.layout, dx is not None
        sums, room = layout.room()
        arrays, tensors = (self.kept, room, sums), (x, g, dx or 0)
        numbers = self.count, self.eps
        call = _call(layout, self.batch, tensors, parameters, (0, 0), arrays, learned, numbers)
        run = passes(self.norm, layout.kind)
        run.products(ctypes.byref(call))
        if wants_x or self.norm == "rbn":  # weight_recenter's gradient needs the sums too
            if self.batch and join is not None:
                join(sums[2:], self.count)
            run.combine(ctypes.byref(call))

    def statistics(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The mean and the biased variance that normalise, (C,) each."""
        about, off, rstd = self.kept[-3 * self.layout.shape[1] :].reshape(3, -1)
        return about + off, rstd**-2.0 - self.eps

    @classmethod
    def infer(
        cls,
        layout: Layout,
        x: int,
        y: int,
        parameters: Sequence[int],
        running: Sequence[int],
        eps: float,
    ) -> None:
        """The output with the running statistics, for nobody to differentiate; arguments as `Forward` has them."""
        n, channels, _ = layout.shape
        kept, (sums, room) = np.empty(n * channels + 3 * channels, layout.real), layout.room()
        call = _call(layout, False, (x, 0, y), parameters, running, (kept, room, sums), (), (0.0, eps))
        passes(cls.norm, layout.kind).infer(ctypes.byref(call))


class RBNForward(Forward):
    """The same of RBN."""

    norm = "rbn"

    def __init__(
        self, layout: Layout, x: int, y: int, parameters: Sequence[int], *rest: Any, **options: Any
    ) -> None:
        super().__init__(layout, x, y, parameters, *rest, **options)
        real, channels = np.dtype(layout.real), layout.shape[1]
        there = (ctypes.c_char * (channels * real.itemsize)).from_address(parameters[4])
        self.recenter = np.frombuffer(there, real).copy()

    def statistics(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        about, off, rstd = self.kept[-3 * self.layout.shape[1] :].reshape(3, -1)
        return (1 + self.recenter) * about - off, rstd**-2.0 - self.eps


def _call(
    layout: Layout,
    batch: bool,
    tensors: Sequence[int],
    parameters: Sequence[int],
    running: Sequence[int],
    arrays: Sequence[npt.NDArray[Any]],
    learned: Sequence[int],
    numbers: Sequence[float],
) -> _Call:
    """`struct iebn_call` of these, in its order; a small layer's time is in lines like these."""
    memory = map(_address, arrays)
    flags = layout.rows, layout.threads, batch
    return _Call(
        *layout.shape, *flags, *tensors, *_five(parameters), *running, *memory, *_five(learned), *numbers
    )


def _five(addresses: Sequence[int]) -> Sequence[int]:
    """IEBN's four parameters leave the fifth's place empty, 0; where there are none, all."""
    return (*addresses, 0, 0, 0, 0, 0)[:5]


def _address(array: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # a third of the time of array.ctypes.data


class _Passes(NamedTuple):
    """The library's functions for one norm and one type of element."""

    sums: Any
    map: Any
    infer: Any
    products: Any
    combine: Any


@cache
def passes(norm: str, kind: str) -> _Passes:
    """The library's functions for a norm, by its name, and for elements of a kind."""
    found = library()
    return _Passes(*(getattr(found, f"{norm}_{name}_{kind}") for name in _Passes._fields))
