"""IEBN as a function of tensors: the published formula, or own kernels."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from mixlayers_paddle._iebn_kernels import fused as fused_iebn
from mixlayers_paddle._iebn_kernels import worth_it
from mixlayers_paddle._iebn_statistics import Statistics


def iebn(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
    fused: bool = False,
) -> Tensor:
    """`y = xhat * (weight * a) + bias`, `a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)`.

    Args:
        x: (N, C, ...).
        weight, bias: (C,), or None for 1 and 0.
        weight_readjust, bias_readjust: (C,).
        statistics: What makes xhat from x.
        fused: Whether own kernels may run: faster, without second derivatives.

    Returns:
        Of x's shape and dtype.
    """
    parameters = (weight, bias, weight_readjust, bias_readjust)
    if fused and worth_it(x, parameters, statistics):
        y = fused_iebn(x, *parameters, statistics)
        if y is not None:
            return y
    return published(x, *parameters, statistics)


def published(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
    statistics: Statistics,
) -> Tensor:
    """The same, as the authors write it: every step an operation of Paddle's own."""
    kind = statistics.mean.dtype
    wide = x if x.dtype == kind else x.astype(kind)  # on CPU Paddle has no batch norm in half precision
    xhat = normalised(wide, statistics)
    y = gated(wide, xhat, weight, bias, weight_readjust, bias_readjust)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def normalised(x: Tensor, statistics: Statistics) -> Tensor:
    """Paddle's batch norm without its affine part; updates the running statistics."""
    channels, kind = statistics.mean.shape, statistics.mean.dtype
    static = not paddle.in_dynamic_mode()
    one, zero = paddle.full(channels, 1.0, kind), paddle.full(channels, 0.0, kind)
    return F.batch_norm(
        x,
        statistics.mean,
        statistics.var,
        one,
        zero,
        training=statistics.batch or not static,  # else it can be differentiated only once
        momentum=statistics.momentum,
        epsilon=statistics.epsilon,
        use_global_stats=None if static and statistics.by_mode else not statistics.batch,
    )


def gated(
    x: Tensor,
    xhat: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    weight_readjust: Tensor,
    bias_readjust: Tensor,
) -> Tensor:
    """`xhat * (weight * a) + bias`, where a comes from x."""
    space = list(range(2, x.ndim))
    gap = (
        x.reshape([0, 0, -1]).mean(2) if space else x
    )  # over one axis: the mean over two has a slow backward
    gate = F.sigmoid(gap * weight_readjust + bias_readjust)
    if weight is not None:
        gate = gate * weight
    y = xhat * gate.unsqueeze(space)
    if bias is None:
        return y
    if not paddle.in_dynamic_mode():  # ONNX knows no expansion to a size that is not known
        return y + bias.reshape([1, -1, *(1 for _ in space)])
    return y + bias.expand_as(gate).unsqueeze(space)  # so adding has a quick backward
