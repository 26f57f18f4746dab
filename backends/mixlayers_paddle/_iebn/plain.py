"""IEBN and RBN in Paddle's own operations, as the authors write them: for any device, dtype and program."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_paddle._iebn.given import Statistics


def plain(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """`iebn`."""
    kind = statistics.mean.dtype
    wide = x if x.dtype == kind else x.astype(kind)  # on CPU Paddle has no batch norm in half precision
    y = gated(wide, normalised(wide, statistics), parameters)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def plain_rbn(x: Tensor, parameters: RBNParameters, statistics: Statistics) -> Tensor:
    """`rbn`."""
    kind = statistics.mean.dtype
    wide = x if x.dtype == kind else x.astype(kind)
    added = _gap(wide) * parameters.weight_recenter
    xhat = normalised(wide + added.unsqueeze(list(range(2, x.ndim))), statistics)
    y = gated(xhat, xhat, Parameters(*parameters[:4]))
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def _gap(x: Tensor) -> Tensor:
    """The mean over space, (N, C), over one axis: that over two has a slow backward."""
    return x.reshape([0, 0, -1]).mean(2) if x.ndim > 2 else x


def normalised(x: Tensor, statistics: Statistics) -> Tensor:
    """Paddle's batch norm without its affine part; updates the running statistics."""
    channels, kind = statistics.mean.shape, statistics.mean.dtype
    static = not paddle.in_dynamic_mode()
    one, zero = paddle.full(channels, 1.0, kind), paddle.full(channels, 0.0, kind)
    return F.batch_norm(
        *(x, statistics.mean, statistics.var, one, zero),
        training=statistics.batch or not static,  # else it can be differentiated only once
        momentum=1.0 - statistics.factor,
        epsilon=statistics.eps,
        use_global_stats=None if static and statistics.by_mode else not statistics.batch,
    )


def gated(x: Tensor, xhat: Tensor, parameters: Parameters) -> Tensor:
    """`xhat * (weight * a) + bias`, where a comes from x."""
    weight, bias, weight_readjust, bias_readjust = parameters
    space = list(range(2, x.ndim))
    gate = F.sigmoid(_gap(x) * weight_readjust + bias_readjust)
    if weight is not None:
        gate = gate * weight
    y = xhat * gate.unsqueeze(space)
    if bias is None:
        return y
    if not paddle.in_dynamic_mode():  # ONNX knows no expansion to a size that is not known
        return y + bias.reshape([1, -1, *(1 for _ in space)])
    # So adding has a quick backward; that of expand_as cannot be differentiated
    return y + (bias + paddle.zeros_like(gate)).unsqueeze(space)


def gradients(
    g: Tensor, x: Tensor, parameters: Parameters, statistics: Iterable[Tensor] | None, epsilon: float
) -> list[Tensor]:
    """The gradients of x and of the parameters, given that of the output, in operations that can be differentiated.

    Args:
        statistics: The mean and variance that normalised; None: the batch's own, which depend on x.
    """
    space, wide = list(range(2, x.ndim)), [1, -1, *(1 for _ in x.shape[2:])]
    batch, (weight, _, weight_readjust, bias_readjust) = [0, *space], parameters
    factor = paddle.ones([1], x.dtype) if weight is None else weight.reshape(wide)
    readjust, start = weight_readjust.reshape(wide), bias_readjust.reshape(wide)
    if statistics is None:
        mean = x.mean(batch, keepdim=True)
        var = (x - mean).square().mean(batch, keepdim=True)
    else:
        mean, var = (t.reshape(wide) for t in statistics)
    rstd = (var + epsilon).rsqrt()
    xhat = (x - mean) * rstd
    gap = x.mean(space, keepdim=True) if space else x
    a = F.sigmoid(gap * readjust + start)

    product = g * xhat
    on_a = product.sum(space, keepdim=True) if space else product
    on_z = factor * on_a * a * (1 - a)
    on_xhat = g * factor * a
    if statistics is None:
        slope = (on_xhat * xhat).mean(batch, keepdim=True)
        on_xhat = on_xhat - on_xhat.mean(batch, keepdim=True) - xhat * slope
    dx = rstd * on_xhat + readjust * on_z * (gap.size / x.size)
    return [dx, (product * a).sum(batch), g.sum(batch), (on_z * gap).sum(batch), on_z.sum(batch)]


def gradients_rbn(
    g: Tensor, x: Tensor, parameters: RBNParameters, statistics: Iterable[Tensor] | None, epsilon: float
) -> list[Tensor]:
    """`gradients` of `rbn`, weight_recenter's last."""
    space, length = list(range(2, x.ndim)), prod(x.shape[2:])
    weight, _, readjust, start, recenter = parameters
    near = _gap(x)
    if statistics is None:
        mean, between = near.mean(0) * (1 + recenter), near.var(0, unbiased=False)
        within = (x - near.unsqueeze(space)).square().mean([0, *space])
        var = within + (1 + recenter).square() * between
    else:
        mean, var = statistics
    rstd = (var + epsilon).rsqrt()
    factor = rstd if weight is None else weight * rstd
    added = recenter * near - mean  # x' - its mean is x + this
    centred = near + added
    a = F.sigmoid(readjust * (rstd * centred) + start)

    total, product = (t.reshape([0, 0, -1]).sum(2) for t in (g, g * x))
    gated = a * (product + added * total)
    on_z = (1 - a) * gated * factor
    on_mean = readjust * rstd * on_z
    whole = a * factor * total + on_mean  # the sum of what x' gets
    average: Any = 0.0
    slope: Any = 0.0
    if statistics is None:
        average = whole.sum(0) / (x.shape[0] * length)
        slope = (factor * gated + on_mean * centred).sum(0) * rstd.square() / (x.shape[0] * length)
    on_plane = whole / length - average - slope * centred
    shift = on_mean / length - average - slope * added + recenter * on_plane
    dx = (a * factor).unsqueeze(space) * g + shift.unsqueeze(space)
    if statistics is None:
        dx = dx - slope.reshape([1, -1, *(1 for _ in space)]) * x
    learned = [gated.sum(0) * rstd, total.sum(0), (on_z * centred).sum(0) * rstd, on_z.sum(0)]
    return [dx, *learned, (near * on_plane).sum(0) * length]
