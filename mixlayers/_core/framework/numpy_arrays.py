"""NumPy arrays as a framework: for batches that are mixed before any framework's tensor exists.

Images may be uint8: they are blended in float32 and rounded to the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace

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
        return x.dtype.kind in "fc" or x.dtype == np.uint8

    def move_axis(self, x: Array, source: int, destination: int) -> Array:
        return np.moveaxis(x, source, destination)

    def maximum(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def concatenate(self, parts: Sequence[Array]) -> Array:
        return np.concatenate(parts)

    def full(self, size: int, value: float, like: Array) -> Array:
        return np.full(size, value, np.float32)

    def to_numpy(self, x: Array) -> Array:
        return x

    def is_bool(self, x: Array) -> bool:
        return x.dtype.kind == "b"

    def to_float(self, x: Array) -> Array:
        return x.astype(np.float32)

    def hot(self, y: Array, num_classes: int) -> Array:
        return np.eye(num_classes, dtype=np.float32)[y]

    def partners(self, perm: Permutation) -> Rows:
        return Rows(perm)

    def blend(self, x: Array, how: Blend, partners: Rows) -> Array:
        return blend(x, how)

    def replace(self, x: Array, how: Replace) -> Array:
        if x.dtype == np.uint8 and (how.scale != 1.0 or (how.fill != how.fill.astype(np.uint8)).any()):
            raise ValueError(
                "8-bit images can be erased by whole numbers from 0 to 255 alone: convert them to float first, or "
                "use mixlayers.augment.RandomErasing, which draws 8-bit noise."
            )
        return np.where(
            how.mask, how.fill.astype(x.dtype), x if how.scale == 1.0 else x * x.dtype.type(how.scale)
        )

    def precise(self, x: Array) -> Array:
        return x.astype(np.float32) if x.dtype in (np.uint8, np.float16) else x

    def like(self, x: Array, other: Array) -> Array:
        if other.dtype == np.uint8:
            return np.clip(np.rint(x), 0, 255).astype(np.uint8)
        return x.astype(other.dtype, copy=False)

    def moments(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
        return x.mean(axes, keepdims=True), x.var(axes, ddof=1, keepdims=True)

    def detached(self, x: Array) -> Array:
        return x

    def exp(self, x: Array) -> Array:
        return np.exp(x)

    def log_sum_exp(self, x: Array, axis: int) -> Array:
        most = x.max(axis, keepdims=True)
        total: Array = most + np.log(np.exp(x - most).sum(axis, keepdims=True))
        return total

    def noise(self, x: Array, law: Literal["uniform", "normal"], seed: int) -> Array:
        return noise(x.shape, law, seed).astype(np.float32 if x.dtype == np.uint8 else x.dtype)

    def points(self, x: Array, index: npt.NDArray[np.int64]) -> Array:
        return np.take_along_axis(x, index[:, None], 2)

    def where(self, mask: npt.NDArray[np.bool_], x: Array, y: Array) -> Array:
        return np.where(mask, x, y)

    def share(self, s: Lam, like: Array, partners: Any = None) -> Lam:
        return s

    def rank(self) -> int:
        return 0


def noise(shape: Sequence[int], law: Literal["uniform", "normal"], seed: int) -> npt.NDArray[np.float32]:
    """float32 noise, uniform in (-1, 1) or standard normal, of a generator of its own."""
    rng = np.random.default_rng(seed)
    if law == "normal":
        return rng.standard_normal(shape, dtype=np.float32)
    return 2.0 * rng.random(shape, dtype=np.float32) - 1.0


def blend(x: Array, how: Blend) -> Array:
    """`x + w * (x[perm] - x)` into a new array, sample by sample, so that intermediate values stay in the cache."""
    if x.ndim == 1:  # whose rows would be no arrays
        return blend(x[:, None], how)[:, 0]
    mixed = np.empty_like(x) if how.mask is None else x.copy()
    if how.box is not None and how.lam == 0.0:
        mixed[how.box] = x[how.box][how.perm]
        return mixed
    kind = np.float32 if x.dtype == np.uint8 else x.dtype
    lams = np.broadcast_to(how.lam, len(x)).tolist()
    one, other = np.empty((2, *x.shape[1:]), kind)
    for i, j in enumerate(how.perm.tolist()):
        where = True if how.mask is None else np.broadcast_to(how.mask[i % len(how.mask)], one.shape)
        if lams[i] == 0.0:  # the partner alone: 0 * inf, as in the logarithm of silence, would be nan
            np.copyto(mixed[i], x[j], where=where)
            continue
        np.multiply(x[i], lams[i], out=one, dtype=kind)
        np.multiply(x[j], 1.0 - lams[i], out=other, dtype=kind)
        one += other
        if x.dtype == np.uint8:
            np.rint(one, out=one)
        np.copyto(mixed[i], one, where=where, casting="unsafe")
    return mixed


class Collated(NumPy):
    """The arrays of a batch that was put together this moment: nobody else has them, so boxes are pasted in place."""

    def blend(self, x: Array, how: Blend, partners: Rows) -> Array:
        if how.box is None or how.lam != 0.0:
            return blend(x, how)
        x[how.box] = x[how.box][how.perm]
        return x


NUMPY, COLLATED = NumPy(), Collated()
