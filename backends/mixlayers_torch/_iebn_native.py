"""IEBN by the compiled passes: as many over memory as BatchNorm makes, and nothing of x's size kept but x."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from mixlayers_native._iebn import Forward, Join, Layout, infer
from mixlayers_native._library import library
from mixlayers_torch._iebn_plain import plain
from mixlayers_torch._iebn_statistics import Statistics, joint_moments, refuse_twice

KINDS: Final = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}


def takes(x: Tensor, parameters: Sequence[Tensor | None], statistics: Statistics) -> bool:
    """Whether there are passes for x, and nobody wants to see or to change the operations that they stand for."""
    if library() is None or not x.is_cpu or x.dtype not in KINDS or torch.compiler.is_compiling():
        return False
    if (
        type(x) is not Tensor
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
    ):
        return False
    if (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return False
    kind = torch.float64 if x.dtype is torch.float64 else torch.float32
    if not (statistics.group is not None or (x.numel() > 0 and (x.is_contiguous() or is_rows(x)))):
        return False  # processes must agree, whatever the shapes of their batches
    for t in (*parameters, statistics.mean, statistics.var):
        if t is not None and (t.dtype is not kind or not t.is_cpu or not t.is_contiguous()):
            return False
    return True


def native(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor:
    """`iebn`."""
    parameters = (weight, bias, weight_readjust, bias_readjust)
    if not (statistics.batch or torch.is_grad_enabled()):
        y = torch.empty_like(x)
        running = _addresses(statistics.mean, statistics.var)
        infer(_layout(x), x.data_ptr(), y.data_ptr(), _addresses(*parameters), running, statistics.eps)
        return y
    if not (x.is_contiguous() or is_rows(x)):
        x = x.contiguous()
    # Past the inspection of its signature, which takes longer than a small layer: what it looks for, `takes` refused
    return super(torch.autograd.Function, _Native).apply(x, *parameters, statistics)


def is_rows(x: Tensor) -> bool:
    """Whether x (N, C, ...) lies in memory as (N, ..., C)."""
    return x.movedim(1, -1).is_contiguous()


class _Native(torch.autograd.Function):
    """Keeps x, a number a sample and channel, and three a channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        *parameters, statistics = given
        y, running = torch.empty_like(x), (statistics.mean, statistics.var)
        ctx.found = Forward(
            _layout(x),
            *(x.data_ptr(), y.data_ptr(), _addresses(*parameters), _addresses(*running)),
            batch=statistics.batch,
            factor=statistics.factor,
            eps=statistics.eps,
            join=None if statistics.group is None else _join_moments(statistics.group),
        )
        if statistics.batch and statistics.mean is not None:
            torch.autograd.graph.increment_version(running)
        ctx.save_for_backward(x, *parameters)
        ctx.statistics = statistics
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, *parameters = ctx.saved_tensors
        group = ctx.statistics.group
        if torch.is_grad_enabled():
            return *_backward_with_graph(ctx, gradients[0]), None
        g = gradients[0]
        if g.stride() != x.stride() or g.dtype is not x.dtype:
            g = torch.empty_like(x).copy_(g)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        learned = [torch.empty_like(parameters[2]) for _ in parameters]
        addresses = (_addresses(*tensors) for tensors in (parameters, learned))
        join = None if group is None else _join_sums(group)
        ctx.found.backward(
            x.data_ptr(), g.data_ptr(), None if dx is None else dx.data_ptr(), *addresses, join
        )
        own = (t if needed else None for t, needed in zip(learned, ctx.needs_input_grad[1:5], strict=True))
        return dx, *own, None


def _layout(x: Tensor) -> Layout:
    size, channels, *space = x.shape
    shape = (size, channels, prod(space))
    rows = shape[2] == 1 or not x.is_contiguous()
    return Layout(shape, rows, KINDS[x.dtype], torch.get_num_threads())


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if t is None else t.data_ptr() for t in tensors]


def _join_moments(group: Any) -> Join:
    def join(own: npt.NDArray[np.float64], count: float) -> float:
        every = torch.from_numpy(np.append(own, count))
        mean, squares, whole = joint_moments(every, group)
        own[0], own[1] = mean.numpy(), squares.numpy()
        return float(whole)

    return join


def _join_sums(group: Any) -> Join:
    def join(own: npt.NDArray[np.float64], count: float) -> float:
        dist.all_reduce(torch.from_numpy(own), group=group)
        return count

    return join


def _backward_with_graph(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again, by PyTorch's own operations.

    Views, since x may have been made from these very parameters: only what they do here is asked for.
    """
    if ctx.statistics.group is not None:
        refuse_twice()
    tensors: Any = [None if t is None else t.view_as(t) for t in ctx.saved_tensors]
    batch, running = ctx.statistics.batch, map(torch.from_numpy, ctx.found.statistics())
    mean, var = (None, None) if batch else running
    x, weight, bias, weight_readjust, bias_readjust = tensors
    statistics = Statistics(mean, var, batch, 0.0, ctx.statistics.eps)
    y = plain(x, weight, bias, weight_readjust, bias_readjust, statistics)
    wanted = [t for t, needed in zip(tensors, ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:5])
