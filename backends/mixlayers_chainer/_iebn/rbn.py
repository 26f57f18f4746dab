"""RBN as a link that stands in for L.BatchNormalization."""

from __future__ import annotations

from typing import Any

from chainer import Parameter, Variable

from mixlayers._core.iebn import RBN_STARTS, RBNParameters
from mixlayers_chainer._iebn.choose import rbn
from mixlayers_chainer._iebn.given import Statistics
from mixlayers_chainer._iebn.layer import PerInstance


class RBN(PerInstance):
    """Representative Batch Normalization: BatchNorm that moves and scales each instance by what stands out in it.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (gamma * a) + beta,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    where xhat is BatchNorm's output for x', without its affine part; each mean is one number per instance and channel.
    Gao, Han, Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y
    is sigmoid(1) = 0.731 times BatchNorm's output.

    Arguments, modes, running statistics (which are those of x') and what loads are IEBN's. The input is never written
    to.

    Args:
        size, decay, eps, dtype, use_gamma, use_beta, initial_gamma, initial_beta, axis: As of `IEBN`.
        initial_avg_mean, initial_avg_var: As of `IEBN`.
        initial_weight_readjust, initial_bias_readjust: Initializers of the scale (0, 1).

    Attributes:
        gamma, beta: Parameters of the shape of the channels, or None.
        weight_readjust, bias_readjust, weight_recenter: Parameters of the same shape.
        avg_mean, avg_var, N: As of `IEBN`.

    Raises:
        ValueError: If neither size nor axis is given, or axis is not ascending from 0.
    """

    weight_recenter: Parameter
    starts = RBN_STARTS

    def _normalise(self, x: Variable, gamma: Any, beta: Any, statistics: Statistics) -> Variable:
        own = gamma, beta, self.weight_readjust, self.bias_readjust, self.weight_recenter
        return rbn(x, RBNParameters(*own), statistics)
