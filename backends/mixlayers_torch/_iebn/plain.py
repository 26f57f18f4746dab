"""IEBN and RBN in PyTorch's own operations, for any device, dtype and transformation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_torch._iebn.given import HALF, Statistics
from mixlayers_torch._iebn.join import joint_moments, let_in


def plain(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """`iebn`, in fewer operations than the authors' code has: the norm applies the weight."""
    return gated(x, _scaled(x, parameters.weight, statistics), parameters)


def plain_rbn(x: Tensor, parameters: RBNParameters, statistics: Statistics) -> Tensor:
    """`rbn`, as the paper writes it."""
    weight, bias, weight_readjust, bias_readjust, weight_recenter = parameters
    wide = (-1,) + (1,) * (x.ndim - 2)
    xhat = _scaled(x + _gap(x, weight_recenter) * weight_recenter.view(wide), None, statistics)
    scaled = xhat if weight is None else xhat * weight.view(wide)
    return gated(xhat, scaled, Parameters(weight, bias, weight_readjust, bias_readjust)).to(x.dtype)


def _scaled(x: Tensor, weight: Tensor | None, statistics: Statistics) -> Tensor:
    """x, normalised and times the weight; updates the running statistics."""
    if statistics.group is not None:
        return _jointly_scaled(x, weight, statistics)
    options = (statistics.batch, statistics.factor, statistics.eps, torch.backends.cudnn.enabled)
    return torch.batch_norm(x, weight, None, statistics.mean, statistics.var, *options)


def _gap(x: Tensor, like: Tensor) -> Tensor:
    """x's mean over space, (N, C, 1, ...); in another tensor's dtype where half precision would round it and move a."""
    space = tuple(range(2, x.ndim))
    return x.mean(space, keepdim=True, dtype=like.dtype if x.dtype in HALF else None) if space else x


def gated(x: Tensor, scaled: Tensor, parameters: Parameters) -> Tensor:
    """`scaled * a + bias`, a from x; addcmul would be slower to differentiate."""
    _, bias, weight_readjust, bias_readjust = parameters
    wide = (-1,) + (1,) * (x.ndim - 2)
    a = torch.sigmoid(_gap(x, weight_readjust) * weight_readjust.view(wide) + bias_readjust.view(wide))
    y = scaled * a
    y = y if bias is None else y + bias.view(wide)
    return y if y.dtype is x.dtype else y.to(x.dtype)


def _jointly_scaled(x: Tensor, weight: Tensor | None, statistics: Statistics) -> Tensor:
    """x, normalised over all processes' batches and times the weight, float32 at least."""
    high = x.float() if x.dtype in HALF else x
    axes, wide = (0, *range(2, x.ndim)), (-1,) + (1,) * (x.ndim - 2)
    count = x.numel() // x.shape[1]
    own: Any = high.sum(axes) / max(count, 1)
    squares = (high - own.detach().view(wide)).square().sum(axes)
    moments = torch.cat((own.double(), squares.double(), own.new_tensor([count], dtype=torch.float64)))
    mean, squares, whole = joint_moments(moments, statistics.group)
    var = (squares / whole.clamp(min=1)).to(high.dtype)
    let_in(statistics, mean, squares, whole)
    scale = torch.rsqrt(var + statistics.eps)
    scale = scale if weight is None else scale * weight
    return (high - mean.to(high.dtype).view(wide)) * scale.view(wide)
