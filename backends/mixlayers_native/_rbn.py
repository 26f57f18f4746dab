"""RBN's forward and backward by IEBN's passes; what lies between them, numbers of size (N, C), is NumPy's."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers_native._calibration import Calibration, recentred_var
from mixlayers_native._iebn import Forward, Join, passes


class RBNForward(Forward):
    """As `Forward`; `parameters` end with the address of weight_recenter, and so do `learned`."""

    def _map(
        self,
        call: Any,
        sums: npt.NDArray[np.float64],
        room: npt.NDArray[Any],
        parameters: Sequence[int],
        running: Sequence[int],
        join: Join | None,
    ) -> None:
        n, channels, length = self.layout.shape
        given = [self._vector(address).copy() if address else None for address in parameters]
        recenter: Any = np.float64(1) * given[4]
        self.about, real = self.kept[n * channels :][:channels], self.layout.real
        first, second = self._planes(room)
        near = first / max(length, 1)
        kept = [self._vector(address) for address in running if address]
        with np.errstate(all="ignore"):  # what is inf or NaN stays it, without a word, as in the passes
            if self.batch:
                mean, squares = sums[:2]
                between = np.square(near - (mean - self.about).astype(real)).sum(0) * length
                squares[...] = recentred_var(squares, between, recenter)
                mean *= 1 + recenter
                if join is not None:
                    self.count = join(sums[:2], self.count)
                squares[squares < 0] = 0
                var = squares / max(self.count, 1)
                if self.count > 0:
                    new = mean, squares / max(self.count - call.correction, 1)
                    for old, own in zip(kept, new, strict=False):
                        old += (call.factor * (own - old)).astype(real)
            else:
                mean, var = (each.astype(np.float64) for each in kept)
            self.normalised = mean.astype(real), var.astype(real)
            off = ((1 + recenter) * self.about - mean).astype(real)
            rstd = (1 / np.sqrt(var + self.eps)).astype(real)
            self.calibration = Calibration(near, off, rstd, given, _sigmoid)
            first[...], second[...] = self.calibration.map()
        passes(self.layout.kind).affine(ctypes.byref(call))

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
        n, channels, length = self.layout.shape
        run, (first, second) = passes(self.layout.kind), self._planes(room)
        run.add(ctypes.byref(call))
        on_x = room[3 * n * channels :][:channels]
        with np.errstate(all="ignore"):
            found, sums[2], sums[3] = self.calibration.learn(first, second)
            if not self.batch:
                sums[2:] = 0
            elif join is not None:
                join(sums[2:], self.count)
            average, slope = (sums[2:] / max(self.count, 1)).astype(self.layout.real)
            first[...], second[...], last = self.calibration.trace(average, slope, max(length, 1), self.about)
            on_x[...] = -slope
            for address, own in zip(learned, (*found, last), strict=True):
                self._vector(address)[...] = own
        if wants_x:
            run.blend(ctypes.byref(call))

    def statistics(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The mean and the biased variance that normalise, (C,) each."""
        return self.normalised

    def _planes(self, room: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A pass's two numbers a plane, (2, N, C)."""
        n, channels, _ = self.layout.shape
        return room[: 2 * n * channels].reshape(2, n, channels)

    def _vector(self, address: int) -> npt.NDArray[Any]:
        """The numbers at an address, (C,)."""
        real = np.dtype(self.layout.real)
        size = self.layout.shape[1] * real.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), real)


def _sigmoid(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    gate: npt.NDArray[Any] = 1 / (1 + np.exp(-z))
    return gate
