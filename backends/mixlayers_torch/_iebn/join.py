"""Statistics and sums of several processes, joined."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mixlayers_torch._iebn.given import Statistics


def joint_moments(own: Tensor, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, squares about it and count of all processes' values, from each one's own, (2C + 1,) float64."""
    means, squares, counts = _Gathered.apply(own, group).split((own.numel() // 2, own.numel() // 2, 1), 1)
    whole = counts.sum()
    mean = (means * counts).sum(0) / whole.clamp(min=1)  # 0 where no process has a sample
    return mean, (squares + counts * (means - mean) ** 2).sum(0), whole


@torch.no_grad()
def let_in(statistics: Statistics, mean: Tensor, squares: Tensor, whole: Tensor) -> None:
    """Update the running statistics by joint ones, unless no process has a sample."""
    if statistics.mean is not None and statistics.var is not None:
        new = (mean, statistics.mean), (squares / (whole - 1).clamp(min=1), statistics.var)
        statistics.update(*(torch.where(whole > 0, own, kept) for own, kept in new))


class _Gathered(torch.autograd.Function):
    """All processes' values, stacked; each one's gradient comes back to it from all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: Any) -> Tensor:
        ctx.group = group
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, own.contiguous(), group=group)
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        refuse_twice()
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group)], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(
            "SyncIEBN has no forward-mode derivative, nor has SyncRBN: use reverse mode, or IEBN2d or RBN2d in one "
            "process."
        )


def refuse_twice() -> None:
    """Raise in a backward that is to be differentiated again."""
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "SyncIEBN has no second derivative, nor has SyncRBN: use IEBN2d or RBN2d in one process for "
            "create_graph=True."
        )
