"""IEBN and RBN in Chainer's own functions, for second derivatives, and for RBN where there are no passes."""

from __future__ import annotations

from typing import Any

import chainer
import chainer.functions as F
import numpy as np
from chainer import Variable

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_chainer._iebn.given import Statistics
from mixlayers_chainer._iebn.measure import update


def plain(x: Variable, parameters: Parameters, statistics: Statistics) -> Variable:
    """`iebn`, as the authors write it, every step a function of Chainer's own; updates no running statistics."""
    kind, given = _high(x, parameters, statistics)
    high = F.cast(x, kind)
    xhat, _ = _normalised(high, statistics)
    return F.cast(_gated(_gap(high, statistics), xhat, *given), x.dtype)


def plain_rbn(x: Variable, parameters: RBNParameters, statistics: Statistics) -> Variable:
    """`rbn`, as the paper writes it; updates the running statistics."""
    kind, (*given, recenter) = _high(x, parameters, statistics)
    high = F.cast(x, kind)
    gap = _gap(high, statistics)
    recentred = high + F.broadcast_to(gap * F.broadcast_to(recenter, gap.shape), x.shape)
    xhat, moments = _normalised(recentred, statistics)
    if statistics.batch and statistics.mean is not None and x.size:
        mean, var = (each.array.reshape(statistics.mean.shape) for each in moments)
        update(statistics, mean, var, x.size / statistics.mean.size)
    return F.cast(_gated(_gap(xhat, statistics), xhat, *given), x.dtype)


def _high(x: Variable, parameters: Any, statistics: Statistics) -> tuple[Any, list[Variable]]:
    """The dtype to compute in, and the parameters in it, to be broadcast against x."""
    keep = tuple(1 if i in statistics.axis else size for i, size in enumerate(x.shape))
    kind = computed(x.dtype, parameters.weight.dtype)
    return kind, [F.reshape(F.cast(each, kind), keep) for each in parameters]


def _normalised(x: Variable, statistics: Statistics) -> tuple[Variable, tuple[Variable, Variable]]:
    """Batch normalisation without its affine part; the mean and variance that it took."""
    axis = statistics.axis
    if statistics.batch:
        mean = F.mean(x, axis, keepdims=True)
        var = F.mean(F.square(x - F.broadcast_to(mean, x.shape)), axis, keepdims=True)
    else:
        keep = tuple(1 if i in axis else size for i, size in enumerate(x.shape))
        running = (each.reshape(keep).astype(x.dtype) for each in (statistics.mean, statistics.var))
        mean, var = map(chainer.as_variable, running)
    return (x - F.broadcast_to(mean, x.shape)) / F.broadcast_to(F.sqrt(var + statistics.eps), x.shape), (
        mean,
        var,
    )


def _gap(x: Variable, statistics: Statistics) -> Variable:
    """The mean over space."""
    return F.mean(x, statistics.axis[1:], keepdims=True) if statistics.axis[1:] else x


def _gated(
    gap: Variable,
    xhat: Variable,
    gamma: Variable,
    beta: Variable,
    weight_readjust: Variable,
    bias_readjust: Variable,
) -> Variable:
    a = F.sigmoid(gap * weight_readjust + bias_readjust)
    return xhat * (a * gamma) + beta


def computed(x: Any, parameter: Any) -> Any:
    """The dtype to compute in: float32 at least."""
    return np.promote_types(np.promote_types(x, parameter), np.float32)
