"""IEBN's passes over memory: sums per instance and channel, and affine maps per instance and channel.

A feature is seen in one of two layouts: *planes* (N, K, L), where L, the space, comes last, and *rows* (N, L, K);
K counts the channels, all axes that are not normalised over. Vectors per instance and channel are (N, K), per channel
(K,). NumPy works block after block, so that what one operation wrote the next finds in the cache; a device takes all
at once. Every array is made from the ones that came in, so that they lie on their device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from chainer import backend

BLOCK = 2**17
"""Elements that NumPy works on at a time."""

Array = Any


@dataclass(frozen=True)
class Layout:
    """How a feature is seen as planes or rows.

    Attributes:
        order: The feature's axes in the order of the layout.
        shape: Of the feature, in that order.
        flat: The layout's shape, three axes.
        space: The axis of space in the layout, 2 for planes or 1 for rows.
        channels: Shape of a vector per channel, as the parameters have it.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]
    flat: tuple[int, int, int]
    space: int
    channels: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], axis: tuple[int, ...]) -> Layout:
        """For features of a shape that are normalised over `axis`: 0, which counts the instances, and the space."""
        space, channels = axis[1:], tuple(i for i in range(len(shape)) if i not in axis)
        length, width = prod(shape[i] for i in space), prod(shape[i] for i in channels)
        rows = length == 1 or (bool(channels) and space[-1] < channels[0])  # with no space either would do
        order = (0, *space, *channels) if rows else (0, *channels, *space)
        flat = (shape[0], length, width) if rows else (shape[0], width, length)
        inner = tuple(shape[i] for i in channels)
        return cls(order, tuple(shape[i] for i in order), flat, 1 if rows else 2, inner)

    @property
    def length(self) -> int:
        """Values in the space of one instance."""
        return self.flat[self.space]

    @property
    def count(self) -> int:
        """Values of a channel."""
        return self.flat[0] * self.length

    def flatten(self, x: Array) -> Array:
        """The feature as planes or rows, a view where its memory allows."""
        xp = backend.get_array_module(x)
        return xp.ascontiguousarray(x.transpose(self.order)).reshape(self.flat)

    def restore(self, flat: Array) -> Array:
        """Planes or rows as a feature."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return flat.reshape(self.shape).transpose(back)

    def spread(self, vector: Array) -> Array:
        """A vector (K,) or (N, K), to be broadcast against planes or rows."""
        return vector[..., None] if self.space == 2 else vector[..., None, :]


def sums(x: Array, layout: Layout, kind: Any) -> Array:
    """The sums over space, (N, K), of dtype `kind`."""
    return x.sum(axis=layout.space, dtype=kind)


def moments(x: Array, centre: Array, layout: Layout) -> tuple[Array, Array]:
    """The sums over space of x - centre and of its square, (N, K) each; centre (K,)."""
    first, second = _vectors(x, centre, layout), _vectors(x, centre, layout)
    xp, middle = backend.get_array_module(x), layout.spread(centre)
    for own, part in _blocks(x, centre):
        xp.subtract(x[own], middle, out=part)
        part.sum(axis=layout.space, out=first[own])
        xp.multiply(part, part, out=part)
        part.sum(axis=layout.space, out=second[own])
    return first, second


def products(gradient: Array, x: Array, centre: Array, layout: Layout) -> tuple[Array, Array]:
    """The sums over space of the gradient, and of the gradient times (x - centre), (N, K) each; centre (K,)."""
    first = sums(gradient, layout, centre.dtype)
    second = _vectors(x, centre, layout)
    xp, middle = backend.get_array_module(x), layout.spread(centre)
    for own, part in _blocks(x, centre):
        xp.subtract(x[own], middle, out=part)
        xp.multiply(part, gradient[own], out=part)
        part.sum(axis=layout.space, out=second[own])
    return first, second


def affine(x: Array, centre: Array, scale: Array, shift: Array, layout: Layout) -> Array:
    """`scale * (x - centre) + shift`; scale and shift (N, K), centre (K,)."""
    xp, out = backend.get_array_module(x), backend.get_array_module(x).empty_like(x)
    middle, scale, shift = (layout.spread(vector) for vector in (centre, scale, shift))
    for own, part in _blocks(x, centre):
        xp.subtract(x[own], middle, out=part)
        xp.multiply(part, scale[own], out=part)
        xp.add(part, shift[own], out=out[own])
    return out


def combine(
    gradient: Array, x: Array, centre: Array, on_g: Array, on_x: Array | None, shift: Array, layout: Layout
) -> Array:
    """`on_g * gradient + on_x * (x - centre) + shift`, of x's dtype.

    Args:
        gradient, x: In the layout.
        centre: (K,).
        on_g, shift: (N, K).
        on_x: (K,); None for 0.
        layout: Of gradient and x.
    """
    xp, out = backend.get_array_module(x), backend.get_array_module(x).empty_like(x)
    middle, on_g, shift = (layout.spread(vector) for vector in (centre, on_g, shift))
    other = None
    for own, part in _blocks(x, centre):
        xp.multiply(gradient[own], on_g[own], out=part)
        if on_x is not None:
            other = xp.empty_like(part) if other is None else other[: len(part)]
            xp.subtract(x[own], middle, out=other)
            xp.multiply(other, layout.spread(on_x), out=other)
            xp.add(part, other, out=part)
        xp.add(part, shift[own], out=out[own])
    return out


def _vectors(x: Array, like: Array, layout: Layout) -> Array:
    """Room for (N, K) of like's dtype."""
    shape = (layout.flat[0], layout.flat[3 - layout.space])
    return backend.get_array_module(x).empty_like(x, dtype=like.dtype, shape=shape)


def _blocks(x: Array, like: Array) -> Iterator[tuple[slice, Array]]:
    """Slices of samples, each a block, with room to work on it in like's dtype, the same for every block."""
    size = len(x)
    step = max(1, size)
    if backend.get_array_module(x) is np:
        step = min(step, max(1, BLOCK // max(1, x[:1].size)))
    room = backend.get_array_module(x).empty_like(x[:step], dtype=like.dtype)
    for start in range(0, size, step):
        yield slice(start, start + step), room[: size - start]
