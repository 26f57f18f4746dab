"""IEBN's passes over memory: sums per instance and channel, and affine maps per instance and channel.

A feature is seen in one of two layouts: *planes* (N, K, L), where L, the space, comes last, and *rows* (N, L, K);
K counts the channels, all axes that are not normalised over. Vectors per instance and channel are (N, K), per channel
(K,). Every array is made from the ones that came in, so that they lie on their device.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from chainer import backend

Array = Any


@dataclass(frozen=True)
class Layout:
    """A feature's layout, as planes or rows.

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
    part = x - layout.spread(centre)
    first = part.sum(axis=layout.space)
    part *= part
    return first, part.sum(axis=layout.space)


def products(gradient: Array, x: Array, centre: Array, layout: Layout) -> tuple[Array, Array]:
    """The sums over space of the gradient, and of the gradient times (x - centre), (N, K) each; centre (K,)."""
    part = x - layout.spread(centre)
    part *= gradient
    return sums(gradient, layout, centre.dtype), part.sum(axis=layout.space)


def affine(x: Array, centre: Array, scale: Array, shift: Array, layout: Layout) -> Array:
    """`scale * (x - centre) + shift`, of x's dtype; scale and shift (N, K), centre (K,)."""
    part = x - layout.spread(centre)
    part *= layout.spread(scale)
    part += layout.spread(shift)
    return part.astype(x.dtype, copy=False)


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
    part = layout.spread(on_g) * gradient
    if on_x is not None:
        other = x - layout.spread(centre)
        other *= layout.spread(on_x)
        part += other
    part += layout.spread(shift)
    return part.astype(x.dtype, copy=False)
