"""IEBN in half the passes over memory that Paddle's operations take, for large tensors on CPU.

One operation maps each plane, scale and shift made from the batch's statistics and the attention; it knows nothing of
how these depend on x. What that adds to the gradient of x, a hook adds. So the graph is made of Paddle's own nodes: a
PyLayer would crash Paddle 3.3 when `backward()` ran through it a second time, and would refuse `paddle.grad([y], [x])`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.jit.sot import psdb

from mixlayers_paddle._iebn_statistics import Statistics

_C_ops: Any = paddle._C_ops

SMALL = 2**18
"""Below so many elements Paddle's operations are as fast."""

LONG = 2**12
"""Paddle's dot adds up one by one: in longer rows float32 would lose digits."""

EXACT = 2**9
"""A sum of so many float32 is exact to a few roundings whichever way a processor adds them up. Longer ones are cut, and
float64 adds the pieces: the gradients of the parameters magnify what the mean is off by."""

BLOCK = 2**17
"""Elements that are worked on at a time where memory of the size of x would have to be asked for."""

FAR = 5.0
"""A batch whose mean square is more than so many times its variance is too far from 0 for one pass in float32."""


class Normaliser(NamedTuple):
    """What normalises a batch, and what the hook needs.

    Attributes:
        gap: The means over space (N, C).
        mean, rstd: (C,).
        batch: Whether they are the batch's own, and so depend on x.
    """

    gap: Tensor
    mean: Tensor
    rstd: Tensor
    batch: bool


def worth_it(x: Tensor, parameters: tuple[Tensor | None, ...], statistics: Statistics) -> bool:
    """Whether there are kernels for x, and they are faster than Paddle's operations."""
    if psdb.in_sot() or not paddle.in_dynamic_mode() or x.ndim < 3 or x.size < SMALL:
        return False
    tensors = *parameters, statistics.mean, statistics.var
    pixels = _pixels(x)
    return (
        x.place.is_cpu_place()
        and x.dtype in (paddle.float32, paddle.float64)
        and all(t.dtype == x.dtype for t in tensors if t is not None)
        and pixels >= 8
        and _pieces(pixels, LONG) <= pixels // 8
    )


def fused(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor | None:
    """`iebn`, or None if x is too far from 0."""
    with paddle.no_grad():
        normaliser = _normaliser(x.detach(), statistics)
    if normaliser is None:
        return None
    gap, mean, rstd = normaliser.gap, normaliser.mean, normaliser.rstd

    # All from one tensor: of scale and shift the operation's backward writes neither where only one is asked for
    zeros = paddle.zeros_like(mean)
    own = rstd if weight is None else weight * rstd, zeros if bias is None else bias
    weight, bias, *readjust, zeros, less = paddle.stack(
        [*own, weight_readjust, bias_readjust, zeros, -mean]
    ).unbind(0)
    attention = F.sigmoid(_affine(gap, *readjust))
    scale = _affine(attention, weight, zeros)
    shift = _affine(scale, less, bias)

    planes, scale, shift = x.reshape([gap.size, -1]), scale.flatten(), shift.flatten()
    hooks = _ThroughStatistics(
        x.detach(), normaliser, scale.detach(), attention.detach(), readjust[0].detach()
    )
    for tensor, hook in ((planes, hooks.on_x), (scale, hooks.on_scale), (shift, hooks.on_shift)):
        if not tensor.stop_gradient:
            tensor.register_hook(hook)
    y = _C_ops.affine_channel(planes.unsqueeze(0), scale, shift, "NCHW")
    if not y.stop_gradient:
        y.register_hook(hooks.begin)
    return y.reshape(x.shape)


@dataclass
class _ThroughStatistics:
    """Adds to the gradient of x what comes through the batch's mean and variance, and through the attention.

    Attributes:
        scale: Of the planes, (N * C,).
        on_planes: The sums over space of the gradient of y, and of its product with x, if Paddle has come by them.
    """

    x: Tensor
    normaliser: Normaliser
    scale: Tensor
    attention: Tensor
    weight_readjust: Tensor
    on_planes: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, gradient: Tensor) -> None:
        """Say what Paddle would say otherwise: its operation has no second derivative."""
        self.on_planes.clear()
        if not gradient.is_leaf:
            raise RuntimeError(
                "second derivatives (create_graph=True) of IEBN need Paddle's own operations: set `fused = False` on "
                "the layer, or for all of them by `IEBN2D.fused = False`."
            )

    def on_scale(self, gradient: Tensor) -> None:
        self.on_planes["product"] = gradient

    def on_shift(self, gradient: Tensor) -> None:
        self.on_planes["total"] = gradient

    def on_x(self, gradient: Tensor) -> Tensor:
        """Complete the gradient (N * C, pixels), which is fresh from the operation and may be written to.

            dx = gradient - mean(gradient) - xhat * mean(gradient * xhat) + on_z * weight_readjust / pixels

        where on_z, the attention's, is (1 - attention) * sum(gradient * (x - mean)) over space.
        """
        with paddle.no_grad():
            shape = self.attention.shape
            if len(self.on_planes) == 2:
                total, product = (
                    (self.scale * self.on_planes.pop(name)).reshape(shape) for name in ("total", "product")
                )
            else:  # no parameter asks for its gradient, or Paddle takes another order
                sums = _sums(gradient, shape), _dots(gradient, self.x, shape)
                total, product = (each.astype(gradient.dtype) for each in sums)
            return self._completed(gradient, total, product - total * self.normaliser.mean)

    def _completed(self, gradient: Tensor, total: Tensor, product: Tensor) -> Tensor:
        """`on_x`, given the sums over space of the gradient, and of the gradient times (x - mean)."""
        x, mean, rstd = self.x, self.normaliser.mean, self.normaliser.rstd
        share = self.weight_readjust / gradient.shape[1]
        shift = product * _affine(self.attention, -share, share)
        if not self.normaliser.batch:
            return _add_planes_(gradient, None, None, shift)
        part = paddle.full([len(x)], x.shape[1] / x.size, x.dtype)
        slope = paddle.matmul(part, product) * rstd * rstd
        shift = _affine(shift, paddle.ones_like(mean), slope * mean - paddle.matmul(part, total))
        return _add_planes_(gradient, x, (-slope).expand(shift.shape), shift)


def _normaliser(x: Tensor, statistics: Statistics) -> Normaliser | None:
    """What normalises x; updates the running statistics. None if x is too far from 0."""
    size, channels = x.shape[:2]
    gap = _sums(x, [size, channels]).scale(1 / _pixels(x))
    if statistics.batch:
        part = paddle.full([size], 1 / size, gap.dtype)
        mean = paddle.matmul(part, gap)
        square = paddle.matmul(part, _dots(x, x, gap.shape)).scale(1 / _pixels(x))
        var = (square - mean * mean).astype(x.dtype)
        square, mean = square.astype(x.dtype), mean.astype(x.dtype)
    else:
        mean, var = statistics.mean.clone(), statistics.var
        square = var + mean * mean
    if bool((square > FAR * var).any()):
        return None
    if statistics.batch:
        kept = statistics.momentum
        for running, new in ((statistics.mean, mean), (statistics.var, var)):
            running.scale_(kept).add_(new.scale(1 - kept))
    return Normaliser(gap.astype(x.dtype), mean, (var + statistics.epsilon).rsqrt(), statistics.batch)


def _pixels(x: Tensor) -> int:
    return x.size // (x.shape[0] * x.shape[1])


def _pieces(pixels: int, most: int) -> int:
    """Into how many equal pieces a plane is cut, so that none has more elements than wanted."""
    return next(k for k in range(-(-pixels // most), pixels + 1) if pixels % k == 0)


def _sums(x: Tensor, shape: list[int]) -> Tensor:
    """Sums over space, (N, C), float64."""
    pixels = x.size // (shape[0] * shape[1])
    pieces = _pieces(pixels, EXACT)
    if pieces > pixels // 8:  # a length with no such divisors
        pieces = _pieces(pixels, LONG)
    length = pixels // pieces
    return _joined(paddle.mv(x.reshape([-1, length]), paddle.ones([length], x.dtype)), shape)


def _dots(one: Tensor, other: Tensor, shape: list[int]) -> Tensor:
    """Sums of `one * other` over space, (N, C), float64."""
    pixels = one.size // (shape[0] * shape[1])
    flat = [-1, pixels // _pieces(pixels, LONG)]
    return _joined(paddle.dot(one.reshape(flat), other.reshape(flat)), shape)


def _joined(pieces: Tensor, shape: list[int]) -> Tensor:
    """The sums of each plane's pieces, (N, C), float64."""
    return pieces.astype("float64").reshape([*shape, -1]).sum(2)


def _affine(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`rows * scale + shift`, for rows (N, C) and vectors (C,)."""
    return _C_ops.affine_channel(rows, scale, shift, "NHWC")


def _add_planes_(total: Tensor, x: Tensor | None, scale: Tensor | None, shift: Tensor) -> Tensor:
    """Add `x * scale + shift` to the total (N * C, pixels) in place, scale and shift (N, C); or the shift alone."""
    planes, pixels = total.shape
    shift = shift.flatten()
    if x is None or scale is None:
        _C_ops.affine_channel_(total.unsqueeze(0), paddle.ones_like(shift), shift, "NCHW")
        return total
    x, scale, step = x.reshape([planes, pixels]), scale.flatten(), max(1, BLOCK // pixels)
    for start in range(0, planes, step):
        part = slice(start, start + step)
        added = _C_ops.affine_channel(x[part].unsqueeze(0), scale[part], shift[part], "NCHW")
        total[part].add_(added[0])
    return total
