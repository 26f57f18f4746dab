"""IEBN with fewer new blocks of memory than Paddle's operations take: about half their time on CPU.

As a PyLayer it can be run backward once, and by `backward()`: Paddle 3.3 drops a PyLayer's context after that run.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.autograd import PyLayer

_C_ops: Any = paddle._C_ops

SMALL = 2**18
"""Below so many elements the published formula is faster."""

LONG = 2**12
"""Paddle's dot adds up one by one: in longer rows float32 would lose digits."""

LEAST = 1e-20
"""The backward divides by the attention, which must not be 0."""


def worth_it(x: Tensor, parameters: tuple[Tensor | None, ...], statistics: Any) -> bool:
    """Whether own kernels apply to x and are faster than Paddle's operations."""
    if not paddle.in_dynamic_mode() or x.ndim < 3:
        return False
    others = (*parameters, statistics.mean, statistics.var)
    return (
        x.place.is_cpu_place()
        and x.dtype in (paddle.float32, paddle.float64)
        and all(t.dtype == x.dtype for t in others if t is not None)
        and x.size >= max(SMALL, 8 * x.shape[0] * x.shape[1])
        and x.size > x.shape[1]
    )


def fused(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Any,
) -> Tensor:
    weight = paddle.ones_like(weight_readjust) if weight is None else weight
    bias = paddle.zeros_like(weight_readjust) if bias is None else bias
    alive = _Alive()
    y = _IEBN.apply(x, weight, bias, weight_readjust, bias_readjust, statistics, alive)
    if not y.stop_gradient:
        y.register_hook(partial(_refuse_second_run, weakref.ref(alive)))
    return y


class _Alive:
    """Dies with the context of a PyLayer, which Paddle drops when `backward()` has run through it."""


def _refuse_second_run(alive: weakref.ref[_Alive], gradient: Tensor) -> None:
    """Paddle 3.3 would crash."""
    if alive() is None:
        raise RuntimeError(
            "backward() ran through a fused IEBN a second time (retain_graph=True), which Paddle's PyLayer cannot do: "
            "leave `fused` at False, or sum the losses first."
        )


class _IEBN(PyLayer):
    """Keeps x, its means over space and the attention (N, C), and vectors (C,). x is (N, C, ...)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_readjust: Tensor,
        bias_readjust: Tensor,
        statistics: Any,
        alive: _Alive,
    ) -> Tensor:
        ctx.alive = alive
        batch, momentum, epsilon = statistics.batch, statistics.momentum, statistics.epsilon
        running = statistics.mean, statistics.var
        xhat, *_, mean, rstd, _ = _C_ops.batch_norm(
            x, *running, None, None, not batch, momentum, epsilon, "NCHW", not batch, False
        )
        if not batch:
            mean, rstd = running[0].clone(), (running[1] + epsilon).rsqrt()
        gap = _sums(x).scale(1 / _pixels(x))
        a = _affine(gap, weight_readjust, bias_readjust).sigmoid().clip_(min=LEAST)
        y = _planes_(xhat, _affine(a, weight, paddle.zeros_like(weight)), bias.expand_as(a))
        ctx.save_for_backward(x, weight, bias, weight_readjust, bias_readjust, gap, a, mean, rstd)
        ctx.batch, ctx.epsilon = batch, epsilon
        ctx.wanted = [not t.stop_gradient for t in (x, weight, bias, weight_readjust, bias_readjust)]
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if paddle.is_grad_enabled():
            return _backward_with_graph(ctx, g)
        x, weight, _, weight_readjust, _, gap, a, mean, rstd = ctx.saved_tensor()
        ones, zeros, count = paddle.ones_like(mean), paddle.zeros_like(mean), x.size // x.shape[1]
        centred = _C_ops.affine_channel(x, ones, -mean, "NCHW")
        total, product = _sums(g), _dots(g, centred)

        through, factor = product * a, weight * rstd
        on_z = through - through * a  # to be multiplied by factor
        slope = _batch_sum(through)
        on_weight, on_bias = slope * rstd, _batch_sum(total)
        on_attention = _batch_sum(on_z * gap) * factor, _batch_sum(on_z) * factor
        found = None, on_weight, on_bias, *on_attention
        if not ctx.wanted[0]:
            return _of_wanted(ctx, found)

        # dx = factor * (a * g + on_z * weight_readjust / pixels - average - centred * rstd**2 * slope / count)
        average, slope = (_batch_sum(a * total) / count, slope / count) if ctx.batch else (zeros, zeros)
        inverse = a.reciprocal()
        shift = _affine(on_z, weight_readjust / _pixels(x), -average).multiply_(inverse)
        dx = _planes_(centred, _affine(inverse, -slope * rstd * rstd, zeros), shift)
        dx = dx.add_(g.reshape(dx.shape))
        dx = _planes_(dx, _affine(a, factor, zeros), paddle.zeros_like(a))
        return _of_wanted(ctx, (dx.reshape(x.shape), *found[1:]))


def _of_wanted(ctx: Any, gradients: Any) -> tuple[Tensor | None, ...]:
    """Paddle wants None for tensors that stop the gradient."""
    return tuple(each if wanted else None for each, wanted in zip(gradients, ctx.wanted, strict=True))


def _backward_with_graph(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients by operations that can be differentiated again."""
    x, weight, _, weight_readjust, bias_readjust, _, _, mean, rstd = ctx.saved_tensor()
    shape, count = x.shape, x.size // x.shape[1]
    x, g = x.reshape([shape[0], shape[1], -1]), g.reshape([shape[0], shape[1], -1])
    gap = x.mean(2)
    if ctx.batch:
        mean = gap.mean(0)
        rstd = ((x - mean.unsqueeze(1)).square().mean(2).mean(0) + ctx.epsilon).rsqrt()
    xhat = (x - mean.unsqueeze(1)) * rstd.unsqueeze(1)
    a = F.sigmoid(gap * weight_readjust + bias_readjust)
    total, through = g.sum(2), (g * xhat).sum(2) * a
    on_z = through * (1 - a) * weight
    dx = g * (a * (weight * rstd)).unsqueeze(2) + (on_z * weight_readjust / x.shape[2]).unsqueeze(2)
    if ctx.batch:
        average, slope = (
            ((each.sum(0)) * weight * rstd / count).unsqueeze(1) for each in (a * total, through)
        )
        dx = dx - average - xhat * slope
    found = dx.reshape(shape), through.sum(0), total.sum(0), (on_z * gap).sum(0), on_z.sum(0)
    return _of_wanted(ctx, found)


def _pixels(x: Tensor) -> int:
    return x.size // (x.shape[0] * x.shape[1])


def _affine(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`rows * scale + shift`, for rows (N, C) and vectors (C,)."""
    return _C_ops.affine_channel(rows, scale, shift, "NHWC")


def _planes_(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`x * scale + shift` in x's own memory, for scale and shift (N, C); returned as (1, N * C, pixels)."""
    planes = x.reshape([1, scale.size, -1])
    return _C_ops.affine_channel_(planes, scale.reshape([-1]), shift.reshape([-1]), "NCHW")


def _sums(x: Tensor) -> Tensor:
    """Sums over space, (N, C)."""
    ones = paddle.ones([_pixels(x)], x.dtype)
    return paddle.mv(x.reshape([-1, ones.size]), ones).reshape(x.shape[:2])


def _dots(g: Tensor, x: Tensor) -> Tensor:
    """Sums of `g * x` over space, (N, C)."""
    if _pixels(x) > LONG:
        return _sums(g * x)
    planes = [-1, _pixels(x)]
    return paddle.dot(g.reshape(planes), x.reshape(planes)).reshape(x.shape[:2])


def _batch_sum(rows: Tensor) -> Tensor:
    """Sums over the batch, (C,): (N, C) summed by BLAS."""
    return paddle.matmul(paddle.ones([rows.shape[0]], rows.dtype), rows)
