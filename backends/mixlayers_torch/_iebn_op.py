"""IEBN as a function of tensors: in PyTorch's own operations, and in as few passes over memory as BatchNorm."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mixlayers_torch._iebn_algebra import arrays, gates, rounded, slopes, tensor
from mixlayers_torch._iebn_fused import fused
from mixlayers_torch._iebn_kernels import (
    HALF,
    affine,
    centred,
    combine,
    is_rows,
    matrix,
    products,
    shaped,
    sums,
)
from mixlayers_torch._iebn_statistics import FAR, Statistics, moments

SMALL = 2**17
"""Below so many elements PyTorch's own operations are faster."""


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
    if statistics.group is None and statistics.batch and x.numel() <= x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    if statistics.group is None and x.ndim > 2 and _compiling():
        return fused(x, *parameters, statistics)
    if statistics.group is None and not _worth_it(x, parameters, statistics):
        return plain(x, *parameters, statistics)
    weight = torch.ones_like(weight_readjust) if weight is None else weight
    bias = torch.zeros_like(weight_readjust) if bias is None else bias
    x = x if is_rows(x) else x.contiguous()
    if not (statistics.batch or torch.is_grad_enabled()):
        return _inferred(x, weight, bias, weight_readjust, bias_readjust, statistics)
    return _IEBN.apply(x, weight, bias, weight_readjust, bias_readjust, statistics)


def plain(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor:
    """The same in PyTorch's own operations, fewer than the authors' code has: the norm applies the weight."""
    scaled = torch.batch_norm(
        x,
        weight,
        None,
        statistics.mean,
        statistics.var,
        statistics.batch,
        statistics.factor,
        statistics.eps,
        torch.backends.cudnn.enabled,
    )
    return _gated(x, scaled, bias, weight_readjust, bias_readjust)


def _gated(
    x: Tensor, scaled: Tensor, bias: Tensor | None, weight_readjust: Tensor, bias_readjust: Tensor
) -> Tensor:
    """`scaled * a + bias`; addcmul would be slower to differentiate."""
    space, wide = tuple(range(2, x.ndim)), (-1,) + (1,) * (x.ndim - 2)
    gap = x.mean(space, keepdim=True) if space else x
    a = torch.sigmoid(gap * weight_readjust.view(wide) + bias_readjust.view(wide))
    y = scaled * a
    y = y if bias is None else y + bias.view(wide)
    return y if y.dtype is x.dtype else y.to(x.dtype)


def _compiling() -> bool:
    """Whether torch.compile reads this, for itself: an exported program keeps PyTorch's batch norm."""
    exporting = getattr(torch.compiler, "is_exporting", None)  # PyTorch has it since 2.7
    return torch.compiler.is_compiling() and not (exporting and exporting())


def _worth_it(x: Tensor, parameters: tuple[Tensor | None, ...], statistics: Statistics) -> bool:
    """Whether own kernels apply to x and are faster than PyTorch's own operations."""
    if torch.compiler.is_compiling() or x.numel() < SMALL or type(x) is not Tensor:
        return False
    if torch._C._get_tracing_state() is not None or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if torch.autograd.forward_ad._current_level >= 0:  # as with torch.func: PyTorch differentiates its own
        return False
    kind = torch.float32 if x.dtype in HALF else x.dtype
    return (
        x.device.type == "cpu"
        and all(t is None or t.dtype is kind for t in (*parameters, statistics.mean, statistics.var))
        and prod(x.shape[2:]) >= 8
        and (x.is_contiguous() or is_rows(x))
    )


def _inferred(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor:
    """With the running statistics, for nobody to differentiate: a forward with nothing to keep."""
    flat, axis = matrix(x)
    mean: Any = statistics.mean  # tensors, as there is no batch to take them from
    var: Any = statistics.var
    rstd = torch.rsqrt(var + statistics.eps)
    gate = gates(sums(flat, axis), weight_readjust, bias_readjust, flat.shape[axis])
    scale = gate * (weight * rstd)
    if float(torch.linalg.vector_norm(mean * rstd, torch.inf)) > FAR:
        return shaped(affine(centred(flat, mean, axis), scale, bias.expand_as(scale).contiguous(), axis), x)
    return shaped(affine(flat, scale, torch.addcmul(bias, scale, mean, value=-1), axis), x)


class _IEBN(torch.autograd.Function):
    """Keeps x, its sums over space (N, C), and vectors (C,). x is contiguous or has rows."""

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
        found = moments(x, flat, axis, statistics)
        total = found.total.to(kind)
        rstd, centre = rounded((found.var + statistics.eps) ** -0.5, kind), rounded(found.mean, kind)
        residual = rounded(found.mean - centre, kind) if found.far else centre

        gate, gain, offset = arrays(
            gates(total, weight_readjust, bias_readjust, flat.shape[axis]), weight.to(kind), bias.to(kind)
        )
        scale = gate * (gain * rstd)
        shift = offset - scale * residual
        source = centred(flat, tensor(centre), axis) if found.far else flat
        y = affine(source, tensor(scale), tensor(shift), axis)
        ctx.save_for_backward(x, weight, bias, weight_readjust, bias_readjust, total)
        ctx.statistics, ctx.count, ctx.far = statistics, found.count, found.far
        ctx.centre, ctx.residual, ctx.rstd = centre, residual, rstd
        return shaped(y, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            return *_backward_with_graph(ctx, gradients[0]), None
        x, weight, _, weight_readjust, bias_readjust, gap = ctx.saved_tensors
        statistics, residual, kind = ctx.statistics, ctx.residual, gap.dtype
        flat, axis = matrix(x)
        g = matrix(
            gradients[0].movedim(1, -1).contiguous().movedim(-1, 1)
            if axis == 1
            else gradients[0].contiguous()
        )[0]
        if ctx.far:
            flat = centred(flat, tensor(ctx.centre), axis)
        space = flat.shape[axis]
        total, product = arrays(*products(g, flat, tensor(residual), axis))
        gate, own_gap = arrays(gates(gap, weight_readjust, bias_readjust, space), gap)
        gain, readjust = arrays(weight.to(kind), weight_readjust.to(kind))
        found = slopes(total, product, gate, own_gap, ctx.rstd, gain, readjust, space)
        parameters = found.weight, found.bias, found.weight_readjust, found.bias_readjust
        result: list[Any] = [None, *(tensor(t).to(weight.dtype) for t in parameters), None]
        if ctx.needs_input_grad[0] and not statistics.batch:
            result[0] = shaped(affine(g, tensor(found.on_g), tensor(found.shift), axis), x)
        elif ctx.needs_input_grad[0]:
            average, slope = found.average, found.slope
            if statistics.group is not None:
                both = torch.stack((tensor(average), tensor(slope)))
                dist.all_reduce(both, group=statistics.group)
                average, slope = arrays(*both)
            on_x = found.factor * ctx.rstd * ctx.rstd * slope / -ctx.count
            shift = found.shift - (found.factor * average / ctx.count + on_x * residual)
            result[0] = shaped(combine(g, flat, tensor(found.on_g), tensor(on_x), tensor(shift), axis), x)
        return tuple(result)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(
            "SyncIEBN has no forward-mode derivative: use reverse mode, or IEBN2d in one process."
        )


def _backward_with_graph(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again, by PyTorch's own operations."""
    if ctx.statistics.group is not None:
        raise NotImplementedError(
            "SyncIEBN has no second derivative: use IEBN2d in one process for create_graph=True."
        )
    x, *parameters, _ = ctx.saved_tensors
    weight, *others = parameters
    if ctx.statistics.batch:
        scaled = F.batch_norm(x, None, None, weight, None, True, 0.0, ctx.statistics.eps)
    else:
        shape = (-1, *(1 for _ in x.shape[2:]))
        mean = tensor(ctx.centre + ctx.residual if ctx.far else ctx.centre)
        scaled = (x - mean.view(shape)) * (weight * tensor(ctx.rstd)).view(shape)
    y = _gated(x, scaled, *others)
    wanted = [t for t, needed in zip((x, *parameters), ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:5])
