"""What IEBN normalises with: mean and variance of the batch, of all processes' batches, or of the past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mixlayers_torch._iebn_algebra import arrays, tensor
from mixlayers_torch._iebn_kernels import HALF, can_cut, plane_moments, precise_moments, sums

FAR = 16.0
"""Standard deviations from 0 beyond which sums are taken in float64, and x is centred before it is scaled."""


@dataclass
class Statistics:
    """What to normalise with.

    Attributes:
        mean, var: Running statistics (C,), updated in place where `batch`; None: there are none.
        batch: Whether the batch's own statistics are used, as in training, or the running ones.
        factor: Share of the new batch in the running statistics.
        eps: Added to the variance.
        group: The processes whose batches are taken together; None: this process alone.
    """

    mean: Tensor | None
    var: Tensor | None
    batch: bool
    factor: float
    eps: float
    group: Any = None


@dataclass
class Moments:
    """What the forward needs to know of x.

    Attributes:
        total: Its sums over space (N, C), a tensor.
        mean, var: To normalise with (C,), the variance biased; arrays as `_iebn_algebra` has them.
        count: Of how many values they are; of all processes', where they are taken together.
        far: Whether some mean is so many deviations from 0 that x must be centred before it is scaled.
    """

    total: Tensor
    mean: Any
    var: Any
    count: float
    far: bool


def moments(x: Tensor, flat: Tensor, axis: int, statistics: Statistics) -> Moments:
    """Sums, mean and variance; updates the running statistics.

    Args:
        x: (N, C, ...).
        flat, axis: x as planes or rows, and the axis of space.
        statistics: What to normalise with.
    """
    count = flat.numel() / flat.shape[3 - axis]
    if not statistics.batch:
        mean, var = arrays(statistics.mean.clone(), statistics.var)  # type: ignore[union-attr,arg-type]
        return Moments(sums(flat, axis), mean, var, count, _far(x, mean, var))
    single, cpu = statistics.group is None, x.device.type == "cpu"
    planes = cpu and axis == 2 and x.dtype is torch.float32 and flat.shape[2] > 1 and len(x) > 0
    planes = planes and can_cut(flat)
    if single and not planes:
        (var,) = arrays(
            torch.batch_norm_update_stats(x, statistics.mean, statistics.var, statistics.factor)[1]
        )
        total = sums(flat, axis)  # of better digits than torch's mean where the channels are last
        mean = arrays(total.sum(0, dtype=torch.float64))[0] / count
        if not (far := _far(x, mean, var)):
            return Moments(total, mean, var, count, far)
        total, mean, squares = precise_moments(flat, axis)
        mean, squares = arrays(mean, squares)
        return Moments(total, mean, squares / count, count, far)
    total, mean, squares = plane_moments(flat) if planes else precise_moments(flat, axis)
    mean, squares = arrays(mean, squares)
    if far := _far(x, mean, squares / count):
        total, mean, squares = precise_moments(flat, axis)
        mean, squares = arrays(mean, squares)
    if statistics.group is not None:
        mean, squares, count = _joint(tensor(mean), tensor(squares), count, statistics.group)
        mean, squares = arrays(mean, squares)
        far = _far(x, mean, squares / count)
    _update(statistics, mean, squares, count)
    return Moments(total, mean, squares / count, count, far)


def _far(x: Tensor, mean: Any, var: Any) -> bool:
    """Whether float32's digits want care. Elsewhere than on the CPU the answer would wait for the device: it is yes."""
    if x.dtype in HALF:
        return False
    return x.device.type != "cpu" or bool((mean * mean > FAR**2 * var).any())


def _joint(mean: Tensor, squares: Tensor, count: float, group: Any) -> tuple[Tensor, Tensor, float]:
    """Mean, squares about it and count of all processes' values, from each one's own (float64)."""
    own = torch.cat((mean.nan_to_num(), squares.nan_to_num(), mean.new_tensor([count])))
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, own, group=group)
    means, all_squares, counts = torch.stack(gathered).split((len(mean), len(mean), 1), 1)
    whole = counts.sum()
    joint = (means * counts).sum(0) / whole
    return joint, (all_squares + counts * (means - joint) ** 2).sum(0), float(whole)


def _update(statistics: Statistics, mean: Any, squares: Any, count: float) -> None:
    """The running statistics, in float64 and rounded once."""
    if statistics.mean is None or statistics.var is None:
        return
    old_mean, old_var = arrays(statistics.mean, statistics.var)
    statistics.mean.copy_(tensor(old_mean + (mean - old_mean) * statistics.factor))
    statistics.var.copy_(tensor(old_var + (squares / (count - 1) - old_var) * statistics.factor))
