"""IEBN as torch.compile likes it: sums that it makes in one pass over x, and a map that it makes in another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixlayers._core.iebn import Parameters
from mixlayers_torch._iebn.given import HALF, Statistics


def fused(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """IEBN of x (N, C, ...), in operations that can be differentiated; its gradient takes two passes as well.

    The sums of each plane serve the attention and, taken together, the batch's mean and variance.
    """
    weight, bias, weight_readjust, bias_readjust = parameters
    wide = (..., *(None for _ in x.shape[2:]))
    space = tuple(range(2, x.ndim))
    exact = x.float() if x.dtype in HALF else x
    about: Any = exact[:1].mean((0, *space)).detach() if statistics.batch else statistics.mean
    apart = exact - about[wide]  # what cancels in sums of squares, and in the map, is small
    first = apart.mean(space)
    off: Any = torch.zeros_like(about)
    var: Any = statistics.var
    if statistics.batch:
        off = first.mean(0)
        var = (apart * apart).mean(space).mean(0) - off * off
        count = x.numel() / x.shape[1]
        statistics.update((about + off).detach(), var.detach() * (count / (count - 1)))
    gate = torch.sigmoid((first + about) * weight_readjust + bias_readjust)
    scale = gate * (torch.rsqrt(var + statistics.eps) * (1 if weight is None else weight))
    shift = (0 if bias is None else bias) - scale * off
    return (apart * scale[wide] + shift[wide]).to(x.dtype)
