"""IEBN as a function of tensors: the published formula, and the same in as few passes over memory as BatchNorm."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mixlayers_torch._iebn_kernels import HALF, affine, centred, combine, is_rows, matrix, products, shaped
from mixlayers_torch._iebn_statistics import Statistics, moments

SMALL = 2**17
"""Below so many elements the published formula is faster."""


def iebn(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor:
    """`y = xhat * (weight * a) + bias`, `a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)`.

    Args:
        x: (N, C, ...).
        weight, bias: (C,), or None for 1 and 0.
        weight_readjust, bias_readjust: (C,).
        statistics: What makes xhat from x.

    Returns:
        Of x's shape, dtype and memory format.
    """
    parameters = (weight, bias, weight_readjust, bias_readjust)
    if statistics.group is None and not _worth_it(x, parameters, statistics):
        return published(x, *parameters, statistics)
    weight = torch.ones_like(weight_readjust) if weight is None else weight
    bias = torch.zeros_like(weight_readjust) if bias is None else bias
    return _IEBN.apply(
        x if is_rows(x) else x.contiguous(), weight, bias, weight_readjust, bias_readjust, statistics
    )


def published(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor:
    """The same, as the authors write it: every step an operation of PyTorch's own."""
    options = statistics.batch, statistics.factor, statistics.eps
    xhat = F.batch_norm(x, statistics.mean, statistics.var, None, None, *options)
    return _gated(x, xhat, weight, bias, weight_readjust, bias_readjust)


def _gated(
    x: Tensor,
    xhat: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
) -> Tensor:
    space = list(range(2, x.ndim))
    shape = (1,) * len(space)
    gap = x.mean(space) if space else x
    a = torch.sigmoid(gap * weight_readjust + bias_readjust)  # addcmul would be slower to differentiate
    gate = (a if weight is None else a * weight).view(*gap.shape, *shape)
    y = xhat * gate if bias is None else xhat * gate + bias.view(-1, *shape)
    return y if y.dtype is x.dtype else y.to(x.dtype)


def _worth_it(x: Tensor, parameters: tuple[Tensor | None, ...], statistics: Statistics) -> bool:
    """Whether own kernels apply to x and are faster than the published formula."""
    if torch.compiler.is_compiling() or x.numel() < SMALL or type(x) is not Tensor:
        return False
    if torch._C._get_tracing_state() is not None or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if (
        torch.autograd.forward_ad._current_level >= 0
    ):  # as torch.func: the published formula is differentiated
        return False
    others = [t for t in (*parameters, statistics.mean, statistics.var) if t is not None]
    return (
        x.device.type == "cpu"
        and all(t.dtype is (torch.float32 if x.dtype in HALF else x.dtype) for t in others)
        and x[0, 0].numel() >= 8
        and (x.is_contiguous() or is_rows(x))
    )


class _IEBN(torch.autograd.Function):
    """Keeps x, its means over space (N, C), and vectors (C,). x is contiguous or has rows."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_readjust: Tensor,
        bias_readjust: Tensor,
        statistics: Statistics,
    ) -> Tensor:
        flat, axis = matrix(x)
        kind = torch.float32 if x.dtype in HALF else x.dtype
        parameters = weight, bias, weight_readjust, bias_readjust
        weight, bias, weight_readjust, bias_readjust = (t.to(kind) for t in parameters)
        found = moments(x, flat, axis, statistics)
        gap, centre = (found.total / flat.shape[axis]).to(kind), found.mean.to(kind)
        rstd = (found.var + statistics.eps).rsqrt().to(kind)
        residual = (found.mean - centre).to(kind) if found.far else centre

        a = torch.addcmul(bias_readjust, gap, weight_readjust).sigmoid_()
        scale = a.mul_(weight * rstd)
        shift = torch.addcmul(bias, scale, residual, value=-1)
        y = affine(centred(flat, centre, axis) if found.far else flat, scale, shift, axis)
        ctx.save_for_backward(x, *parameters, gap, centre, residual, rstd)
        ctx.statistics, ctx.count, ctx.offset = statistics, found.count, found.far
        return shaped(y, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, weight, _, weight_readjust, bias_readjust, gap, centre, residual, rstd = ctx.saved_tensors
        statistics = ctx.statistics
        if torch.is_grad_enabled():
            return *_backward_with_graph(ctx, gradients[0]), None
        flat, axis = matrix(x)
        g = matrix(
            gradients[0].movedim(1, -1).contiguous().movedim(-1, 1)
            if axis == 1
            else gradients[0].contiguous()
        )[0]
        if ctx.offset:
            flat = centred(flat, centre, axis)
        total, product = products(g, flat, residual, axis)  # sums of g, and of g * (x - mean)

        dtype, kind = weight.dtype, gap.dtype
        weight, weight_readjust, bias_readjust = (
            t.to(kind) for t in (weight, weight_readjust, bias_readjust)
        )
        a, factor = torch.addcmul(bias_readjust, gap, weight_readjust).sigmoid_(), weight * rstd
        through = product * a
        slope = through.sum(0)
        on_z = torch.addcmul(through, through, a, value=-1)  # to be multiplied by factor
        on_parameters = rstd * slope, total.sum(0), factor * (on_z * gap).sum(0), factor * on_z.sum(0)
        result: list[Any] = [None, *(t.to(dtype) for t in on_parameters)]
        if ctx.needs_input_grad[0]:
            shift = on_z.mul_(factor * weight_readjust / flat.shape[axis])
            on_x = torch.zeros_like(factor)
            if statistics.batch:
                both = torch.stack(((a * total).sum(0), slope))
                if statistics.group is not None:
                    dist.all_reduce(both, group=statistics.group)
                average, slope = both / ctx.count
                on_x = -factor * rstd * rstd * slope
                shift.sub_(factor * average + on_x * residual)
            result[0] = shaped(combine(g, flat, a.mul_(factor), on_x, shift, axis), x)
        return *result, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(
            "SyncIEBN has no forward-mode derivative: use reverse mode, or IEBN2d in one process."
        )


def _backward_with_graph(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again, from the published formula."""
    if ctx.statistics.group is not None:
        raise NotImplementedError(
            "SyncIEBN has no second derivative: use IEBN2d in one process for create_graph=True."
        )
    x, *parameters, _, centre, residual, rstd = ctx.saved_tensors
    if ctx.statistics.batch:
        xhat = F.batch_norm(x, None, None, None, None, True, 0.0, ctx.statistics.eps)
    else:
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        mean = centre + residual if ctx.offset else centre
        xhat = (x - mean.view(shape)) * rstd.view(shape)
    y = _gated(x, xhat, *parameters)
    wanted = [t for t, needed in zip((x, *parameters), ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:5])
