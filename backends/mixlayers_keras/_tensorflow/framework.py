"""TensorFlow as the core sees it: what only it can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from mixlayers._core.errors import refuse
from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.pairs import inverse
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers_keras._tensorflow.array import Array, raw


class Partners:
    """A step's partners.

    Attributes:
        perm, inverse: int32 (N,), NumPy's or tensors.
    """

    def __init__(self, perm: Any, inverse: Any) -> None:
        self.perm, self.inverse = perm, inverse

    def of(self, y: Any) -> Any:
        """`y[perm]`; its gradient is a look-up too, by the inverse, and no sum over rows."""
        x = tf.convert_to_tensor(raw(y))
        known = x.dtype.is_floating or x.dtype.is_complex
        return like(y, _rows(x, self.perm, self.inverse) if known else tf.gather(x, self.perm))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _rows(x: Any, perm: Any, inverse: Any) -> Any:
    return tf.gather(x, perm), lambda gradient: (_rows(gradient, inverse, perm), None, None)


class TensorFlow(Framework):
    """TensorFlow's tensors, eager or symbolic, as they are or as the core's `Array`: each gives its own kind."""

    module = type(None)
    ignored = -100

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, Array | tf.Tensor | np.ndarray)

    def is_float(self, x: Any) -> bool:
        kind = tf.as_dtype(x.dtype)
        return bool(kind.is_floating or kind.is_complex)

    def is_bool(self, x: Any) -> bool:
        return bool(tf.as_dtype(x.dtype) == tf.bool)

    def move_axis(self, x: Any, source: int, destination: int) -> Any:
        return like(x, keras.ops.moveaxis(raw(x), source, destination))

    def maximum(self, x: Any, y: Any) -> Any:
        return like(x, tf.maximum(raw(x), raw(y)))

    def concatenate(self, parts: Sequence[Any]) -> Any:
        return like(parts[0], tf.concat([raw(part) for part in parts], 0))

    def full(self, size: int, value: float, like: Any) -> Any:
        return tf.fill([size], tf.constant(value, tf.float32))

    def to_numpy(self, x: Any) -> npt.NDArray[Any]:
        return np.asarray(raw(x))

    def hot(self, y: Any, num_classes: int) -> Any:
        return like(y, tf.one_hot(raw(y), num_classes))

    def to_float(self, x: Any) -> Any:
        return like(x, tf.cast(raw(x), tf.float32))

    def top(self, scores: Any, k: int) -> Any:
        found = tf.math.top_k(keras.ops.moveaxis(raw(scores), 1, -1), k).indices
        return like(scores, keras.ops.moveaxis(found, -1, 1))

    def label(self, y: Any) -> Array:
        return Array(tf.stop_gradient(raw(y)))

    def scalar(self, value: Any) -> Any:
        return raw(value)

    def zeroed(self, y: Any, kept: Any) -> Any:
        y_ = raw(y)
        return like(y, tf.where(raw(kept), y_, tf.zeros_like(y_)))

    def checks(self, y: Any) -> bool:
        return not tf.is_symbolic_tensor(raw(y))

    def partners(self, perm: Permutation) -> Partners:
        return Partners(perm.astype(np.int32), inverse(perm).astype(np.int32))

    def blend(self, x: Any, how: Blend, partners: Partners) -> Any:
        """`keep * x + (1 - keep) * x[perm]` under the mask, in x's dtype; half precision is calculated in float32."""
        own = tf.convert_to_tensor(raw(x))
        partner = partners.of(own)
        if not (isinstance(how.lam, float) and how.lam == 0.0):
            wide, keep = tf.cast(own, precise(own.dtype)), _number(how.lam, own)
            partner = tf.cast(keep * wide + (1.0 - keep) * tf.cast(partner, wide.dtype), own.dtype)
        return like(x, partner if how.mask is None else tf.where(raw(how.mask), partner, own))

    def replace(self, x: Any, how: Replace) -> Any:
        own = tf.convert_to_tensor(raw(x))
        scaled = tf.cast(tf.cast(own, precise(own.dtype)) * _number(how.scale, own), own.dtype)
        return like(x, tf.where(raw(how.mask), tf.cast(raw(how.fill), own.dtype), scaled))

    def precise(self, x: Any) -> Array:
        own = tf.convert_to_tensor(raw(x))
        return Array(tf.cast(own, precise(own.dtype)))

    def like(self, x: Any, other: Any) -> Any:
        return like(other, tf.cast(raw(x), other.dtype))

    def moments(self, x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
        own = raw(x)
        mean, variance = tf.nn.moments(own, axes, keepdims=True)
        count = tf.cast(tf.size(own) / tf.size(mean), variance.dtype)
        return like(x, mean), like(x, variance * (count / (count - 1.0)))

    def detached(self, x: Any) -> Any:
        return like(x, tf.stop_gradient(raw(x)))

    def exp(self, x: Any) -> Any:
        return like(x, tf.exp(raw(x)))

    def log_sum_exp(self, x: Any, axis: int) -> Any:
        return like(x, tf.reduce_logsumexp(raw(x), axis, keepdims=True))

    def noise(self, x: Any, law: Literal["uniform", "normal"], seed: Any) -> Any:
        own = raw(x)
        pair = tf.stack([tf.cast(raw(seed), tf.int32), 0])
        if law == "normal":
            return like(x, tf.random.stateless_normal(tf.shape(own), pair, dtype=own.dtype))
        uniform = tf.random.stateless_uniform(tf.shape(own), pair, dtype=own.dtype)
        return like(x, uniform * 2.0 - 1.0)

    def points(self, x: Any, index: Any) -> Any:
        return like(x, tf.gather(raw(x), raw(index), axis=2, batch_dims=1))

    def where(self, mask: Any, x: Any, y: Any) -> Any:
        return like(x, tf.where(raw(mask), raw(x), raw(y)))

    def either(self, which: Any, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        if isinstance(which, bool):
            return first() if which else second()

        def tensors(made: Callable[[], Any]) -> Any:
            return lambda: tuple(raw(x) for x in made())

        return tuple(Array(x) for x in tf.cond(raw(which), tensors(first), tensors(second)))

    def repeated(self, step: Callable[[Any], Any], start: Any, times: int) -> Any:
        """A loop of the graph: a hundred rounds in a row would take long to trace."""

        def again(at: Any, *state: Any) -> Any:
            return (at + 1, *(raw(x) for x in step(tuple(Array(x) for x in state))))

        first = [raw(x) for x in step(start)]
        _, *last = tf.while_loop(lambda at, *_: at < times, again, [tf.constant(1), *first])
        return tuple(Array(x) for x in last)

    def share(self, s: Any, like: Any, partners: Any = None) -> Any:
        return tf.constant(s) if isinstance(s, np.ndarray) else s

    def rank(self) -> int:
        return 0

    def check_mixing(self) -> None:
        if not tf.executing_eagerly():
            refuse(
                "a plan drawn while TensorFlow traces would be baked in: every call of the traced function would mix "
                "by this one plan",
                "train by fit or by train_on_batch; in tf.data mix in a generator, by MixCollate",
            )


def like(x: Any, made: Any) -> Any:
    """A tensor that was made of another, as the core has that one."""
    return Array(made) if isinstance(x, Array) else made


def precise(kind: Any) -> Any:
    """What a dtype is calculated in: half precision in single."""
    return tf.float32 if kind in (tf.float16, tf.bfloat16) else kind


def _number(value: Any, x: Any) -> Any:
    """A number, or one a sample, that multiplies x, in its precision; a constant in the backward pass."""
    number = tf.stop_gradient(tf.cast(raw(value), precise(x.dtype)))
    return tf.reshape(number, (-1, *(1,) * (len(x.shape) - 1))) if number.shape.rank else number


TENSORFLOW: Final = TensorFlow()
