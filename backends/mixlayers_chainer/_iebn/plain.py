"""IEBN in Chainer's own functions, for second derivatives."""

from __future__ import annotations

from typing import Any

import chainer
import chainer.functions as F
import numpy as np
from chainer import Variable

from mixlayers_chainer._iebn.given import Parameters, Statistics


def plain(x: Variable, parameters: Parameters, statistics: Statistics) -> Variable:
    """`iebn`, as the authors write it, every step a function of Chainer's own; updates no running statistics."""
    axis, keep = statistics.axis, tuple(1 if i in statistics.axis else size for i, size in enumerate(x.shape))
    kind = computed(x.dtype, parameters.gamma.dtype)
    high = F.cast(x, kind)
    gamma, beta, weight_readjust, bias_readjust = (F.reshape(F.cast(each, kind), keep) for each in parameters)
    if statistics.batch:
        centred = high - F.mean(high, axis, keepdims=True)
        var = F.mean(F.square(centred), axis, keepdims=True)
    else:
        mean, var = (each.reshape(keep).astype(kind) for each in (statistics.mean, statistics.var))
        centred, var = high - mean, chainer.as_variable(var)
    gap = F.mean(high, axis[1:], keepdims=True) if axis[1:] else high
    a = F.sigmoid(gap * weight_readjust + bias_readjust)
    return F.cast(centred / F.sqrt(var + statistics.eps) * (a * gamma) + beta, x.dtype)


def computed(x: Any, parameter: Any) -> Any:
    """The dtype to compute in: float32 at least."""
    return np.promote_types(np.promote_types(x, parameter), np.float32)
