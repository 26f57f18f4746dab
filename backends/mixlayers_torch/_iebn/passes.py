"""IEBN or RBN in as few passes over memory as BatchNorm makes, by code of ours; nothing of x's size is kept but x."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_torch._iebn.given import Statistics
from mixlayers_torch._iebn.join import refuse_twice

Given = Parameters | RBNParameters


class Passes(Protocol):
    """One forward, and what its backward needs.

    Attributes:
        given: The class of its parameters.
        plain: The same function in PyTorch's operations.
    """

    given: ClassVar[Any]
    plain: ClassVar[Callable[[Tensor, Any, Statistics], Tensor]]

    def __init__(self, x: Tensor, y: Tensor, parameters: Any, statistics: Statistics) -> None:
        """Write the output into y, which lies as x does, and update the running statistics."""

    def backward(self, x: Tensor, g: Tensor, dx: Tensor | None, parameters: Any, learned: Any) -> None:
        """Write the gradients of x, unless it has none, and of the parameters, given that of the output."""

    def normalisers(self) -> tuple[Tensor, Tensor]:
        """The mean and the biased variance that normalise, (C,) each."""

    @classmethod
    def infer(cls, x: Tensor, y: Tensor, parameters: Any, statistics: Statistics) -> None:
        """Write the output with the running statistics into y, for nobody to differentiate."""


def unseen(x: Tensor, statistics: Statistics) -> bool:
    """Whether nobody wants to see or to change the operations that passes stand for, and x lies well for them."""
    if type(x) is not Tensor or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    if torch._C._get_tracing_state() is not None or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if torch.autograd.forward_ad._current_level >= 0:
        return False  # processes must agree, whatever the shapes of their batches:
    return statistics.group is not None or (x.numel() > 0 and (x.is_contiguous() or is_rows(x)))


def by_passes(kind: type[Passes], x: Tensor, parameters: Given, statistics: Statistics) -> Tensor:
    """`iebn` or `rbn`, for an x that is `unseen`."""
    if not (statistics.batch or torch.is_grad_enabled()):
        y = torch.empty_like(x)
        kind.infer(x, y, parameters, statistics)
        return y
    if not (x.is_contiguous() or is_rows(x)):
        x = x.contiguous()
    # Past the inspection of its signature, which takes longer than a small layer: what it looks for, `unseen` refused
    return super(torch.autograd.Function, _ByPasses).apply(kind, x, *parameters, statistics)


def is_rows(x: Tensor) -> bool:
    """Whether x (N, C, ...) lies in memory as (N, ..., C)."""
    return x.movedim(1, -1).is_contiguous()


class _ByPasses(torch.autograd.Function):
    """Keeps x, a number a sample and channel, and a few a channel."""

    @staticmethod
    def forward(ctx: Any, kind: type[Passes], x: Tensor, *given: Any) -> Tensor:
        *tensors, statistics = given
        y = torch.empty_like(x)
        ctx.found = kind(x, y, kind.given(*tensors), statistics)
        if statistics.batch and statistics.mean is not None:
            torch.autograd.graph.increment_version((statistics.mean, statistics.var))
        ctx.save_for_backward(x, *tensors)
        ctx.statistics = statistics
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, *tensors = ctx.saved_tensors
        given = ctx.found.given
        needed, parameters = ctx.needs_input_grad[1:-1], given(*tensors)
        if torch.is_grad_enabled():
            return None, *_with_graph(ctx, x, parameters, needed, gradients[0]), None
        g = gradients[0]
        if g.stride() != x.stride() or g.dtype is not x.dtype:
            g = torch.empty_like(x).copy_(g)
        dx = torch.empty_like(x) if needed[0] else None
        learned = given(*(torch.empty_like(parameters.weight_readjust) for _ in parameters))
        ctx.found.backward(x, g, dx, parameters, learned)
        own = (t if wanted else None for t, wanted in zip(learned, needed[1:], strict=True))
        return None, dx, *own, None


def _with_graph(
    ctx: Any, x: Tensor, parameters: Given, needed: tuple[bool, ...], gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again, by PyTorch's own operations.

    Views, since x may have been made from these very parameters: only what they do here is asked for.
    """
    if ctx.statistics.group is not None:
        refuse_twice()
    own: Any = [None if t is None else t.view_as(t) for t in (x, *parameters)]
    batch = ctx.statistics.batch
    mean, var = (None, None) if batch else ctx.found.normalisers()
    y = ctx.found.plain(
        own[0], ctx.found.given(*own[1:]), Statistics(mean, var, batch, 0.0, ctx.statistics.eps)
    )
    wanted = [t for t, asked in zip(own, needed, strict=True) if asked]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return tuple(next(found) if asked else None for asked in needed)
