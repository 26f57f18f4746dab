"""NumPy arrays as a framework: for batches that are mixed before any framework's tensor exists."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers import _reference as reference
from mixlayers._framework import Framework, as_class_indices, check_columns
from mixlayers._lam import Lam
from mixlayers._pairs import Permutation
from mixlayers._plan import Blend

Array = npt.NDArray[Any]


class Rows:
    """A step's partners."""

    def __init__(self, perm: Permutation) -> None:
        self.perm = perm

    def of(self, target: Array) -> Array:
        """`target[perm]`."""
        return target[self.perm]


class NumPy(Framework):
    """NumPy's arrays; it has neither modules nor gradients."""

    module = type(None)

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, np.ndarray)

    def is_float(self, x: Array) -> bool:
        return x.dtype.kind in "fc"

    def wants_gradient(self, x: Array) -> bool:
        return False

    def move_axis(self, x: Array, source: int, destination: int) -> Array:
        return np.moveaxis(x, source, destination)

    def to_numpy(self, x: Array) -> Array:
        return x

    def one_hot(self, y: Array, num_classes: int) -> Array:
        if y.dtype.kind == "f":
            check_columns(y, num_classes)
            return y
        return np.eye(num_classes, dtype=np.float32)[as_class_indices(y)]

    def partners(self, perm: Permutation) -> Rows:
        return Rows(perm)

    def blend(self, x: Array, how: Blend, partners: Rows) -> Array:
        return reference.mix(x, how.perm, how.lam, how.mask).astype(x.dtype, copy=False)

    def share(self, s: Lam, beside: Array) -> Lam:
        return s

    def grad_enabled(self) -> bool:
        return False

    def in_backward(self) -> bool:
        return False

    def rank(self) -> int:
        return 0


NUMPY = NumPy()
