"""IEBN as a function of tensors: by the compiled passes on the CPU, else in PyTorch's own operations."""

from __future__ import annotations

import torch
from torch import Tensor

from mixlayers_torch._iebn_fused import fused
from mixlayers_torch._iebn_native import native, takes
from mixlayers_torch._iebn_plain import plain
from mixlayers_torch._iebn_statistics import Statistics


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
    if statistics.group is None and statistics.batch and x.numel() == x.shape[1] > 0:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    if statistics.group is None and x.ndim > 2 and _compiling():
        return fused(x, *parameters, statistics)
    way = native if takes(x, parameters, statistics) else plain
    return way(x, *parameters, statistics)


def _compiling() -> bool:
    """Whether torch.compile reads this, for itself: an exported program keeps PyTorch's batch norm."""
    exporting = getattr(torch.compiler, "is_exporting", None)  # PyTorch has it since 2.7
    return torch.compiler.is_compiling() and not (exporting and exporting())
