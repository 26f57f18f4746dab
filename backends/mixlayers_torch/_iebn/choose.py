"""IEBN and RBN as functions of tensors, and which way they go: passes of ours, or PyTorch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

from mixlayers._core.iebn import Parameters, RBNParameters, check_channels
from mixlayers_torch._iebn import gpu, native
from mixlayers_torch._iebn.given import Statistics
from mixlayers_torch._iebn.inductor import fused
from mixlayers_torch._iebn.passes import Given, by_passes, unseen
from mixlayers_torch._iebn.plain import plain, plain_rbn


def iebn(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """`y = xhat * (weight * a) + bias`, `a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)`.

    Args:
        x: (N, C, ...).
        parameters: Those of the formula.
        statistics: What makes xhat from x.

    Returns:
        Of x's shape, dtype and memory format.
    """
    _check(x, parameters, statistics)
    empty = x.numel() == 0  # its means would be NaN
    if statistics.group is None and x.ndim > 2 and not empty and _compiling():
        return fused(x, parameters, statistics)
    if unseen(x, statistics):
        if native.takes(x, parameters, statistics):
            return by_passes(native.Native, x, parameters, statistics)
        if gpu.takes(x, parameters, statistics):
            return by_passes(gpu.Gpu, x, parameters, statistics)
    return plain(x, parameters, statistics)


def rbn(x: Tensor, parameters: RBNParameters, statistics: Statistics) -> Tensor:
    """`y = xhat * (weight * a) + bias`, `a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)`.

    Args:
        x: (N, C, ...).
        parameters: Those of the formula.
        statistics: What makes xhat from `x + weight_recenter * mean_over_space(x)`.

    Returns:
        Of x's shape, dtype and memory format.
    """
    _check(x, parameters, statistics)
    if unseen(x, statistics) and native.takes(x, parameters, statistics):
        return by_passes(native.NativeRBN, x, parameters, statistics)
    return plain_rbn(x, parameters, statistics)


def _check(x: Tensor, parameters: Given, statistics: Statistics) -> None:
    vectors = *parameters, statistics.mean, statistics.var
    check_channels(x.shape, (t.numel() for t in vectors if t is not None))
    if statistics.group is None and statistics.batch and x.numel() == x.shape[1] > 0:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")


def _compiling() -> bool:
    """Whether torch.compile reads this, for itself: an exported program keeps PyTorch's batch norm."""
    exporting = getattr(torch.compiler, "is_exporting", None)  # PyTorch has it since 2.7
    return torch.compiler.is_compiling() and not (exporting and exporting())
