"""A TensorFlow tensor with the methods that the core calls, which TensorFlow's own have not."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Array:
    """A tensor, eager or symbolic, that behaves as NumPy's arrays do. Between the core's functions alone.

    Args:
        x: The tensor.
    """

    __array_ufunc__ = None  # NumPy's arrays leave operators to it
    __hash__ = None  # type: ignore[assignment]  # it compares element by element

    def __init__(self, x: Any) -> None:
        self.x = x

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sides; None where a trace does not know one."""
        return tuple(self.x.shape)

    @property
    def ndim(self) -> int:
        """How many they are."""
        return len(self.x.shape)

    @property
    def dtype(self) -> Any:
        """TensorFlow's."""
        return self.x.dtype

    def __len__(self) -> int:
        length: int = self.x.shape[0]
        return length

    def __neg__(self) -> Array:
        return Array(-self.x)

    def __getitem__(self, at: Any) -> Array:
        return Array(self.x[at])

    def reshape(self, *shape: Any) -> Array:
        """As NumPy's; None is the number of samples, where a trace does not know it."""
        sides = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        if None in sides and -1 not in sides:
            sides = [-1 if side is None else side for side in sides]
        return Array(tf.reshape(self.x, [tf.shape(self.x)[0] if side is None else side for side in sides]))

    def sum(self, axis: Any = None) -> Array:
        """As NumPy's, like the others below."""
        return Array(tf.reduce_sum(self.x, axis))

    def mean(self, axis: Any = None, dtype: Any = None) -> Array:
        return Array(tf.reduce_mean(self.x if dtype is None else tf.cast(self.x, dtype), axis))

    def any(self, axis: Any = None) -> Array:
        return Array(tf.reduce_any(self.x, axis))

    def argmax(self, axis: int) -> Array:
        return Array(tf.argmax(self.x, axis))

    def swapaxes(self, one: int, other: int) -> Array:
        return Array(keras.ops.swapaxes(self.x, one, other))


def _forward(apply: Callable[[Any, Any], Any]) -> Any:
    return lambda self, other: Array(apply(*_alike(self.x, raw(other))))


def _backward(apply: Callable[[Any, Any], Any]) -> Any:
    return lambda self, other: Array(apply(*reversed(_alike(self.x, raw(other)))))


def _alike(own: Any, other: Any) -> tuple[Any, Any]:
    """Two operands in one dtype, as NumPy would have it; numbers take the tensor's."""
    if isinstance(other, np.ndarray | np.generic):
        other = tf.constant(other)
    if not tf.is_tensor(other):
        return own, other
    kind = keras.backend.result_type(own.dtype, other.dtype)
    return tf.cast(own, kind), tf.cast(other, kind)


for _name in ("add", "sub", "mul", "truediv", "matmul", "pow"):
    setattr(Array, f"__{_name}__", _forward(getattr(operator, _name)))
    setattr(Array, f"__r{_name}__", _backward(getattr(operator, _name)))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Array, f"__{_name}__", _forward(getattr(operator, _name)))


def raw(x: Any) -> Any:
    """The tensor of an array; what is none, itself."""
    return x.x if isinstance(x, Array) else x
