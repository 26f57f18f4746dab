"""IEBN in Paddle's own operations, as the authors write it: for any device, dtype and program."""

from __future__ import annotations

from collections.abc import Iterable

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from mixlayers_paddle._iebn.given import Parameters, Statistics


def plain(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """`iebn`."""
    kind = statistics.mean.dtype
    wide = x if x.dtype == kind else x.astype(kind)  # on CPU Paddle has no batch norm in half precision
    y = gated(wide, normalised(wide, statistics), parameters)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def normalised(x: Tensor, statistics: Statistics) -> Tensor:
    """Paddle's batch norm without its affine part; updates the running statistics."""
    channels, kind = statistics.mean.shape, statistics.mean.dtype
    static = not paddle.in_dynamic_mode()
    one, zero = paddle.full(channels, 1.0, kind), paddle.full(channels, 0.0, kind)
    return F.batch_norm(
        *(x, statistics.mean, statistics.var, one, zero),
        training=statistics.batch or not static,  # else it can be differentiated only once
        momentum=statistics.momentum,
        epsilon=statistics.epsilon,
        use_global_stats=None if static and statistics.by_mode else not statistics.batch,
    )


def gated(x: Tensor, xhat: Tensor, parameters: Parameters) -> Tensor:
    """`xhat * (weight * a) + bias`, where a comes from x."""
    weight, bias, weight_readjust, bias_readjust = parameters
    space = list(range(2, x.ndim))
    # over one axis: the mean over two has a slow backward
    gap = x.reshape([0, 0, -1]).mean(2) if space else x
    gate = F.sigmoid(gap * weight_readjust + bias_readjust)
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
