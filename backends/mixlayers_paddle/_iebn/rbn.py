"""RBN as layers that stand in for nn.BatchNorm1D, 2D and 3D."""

from __future__ import annotations

from paddle import Tensor

from mixlayers._core.iebn import RBN_STARTS, RBNParameters
from mixlayers_paddle._iebn.choose import rbn
from mixlayers_paddle._iebn.given import Statistics
from mixlayers_paddle._iebn.layer import OneAxis, PerInstance, ThreeAxes, TwoAxes


class _RBN(PerInstance):
    """Representative Batch Normalization: BatchNorm that moves and scales each instance by what stands out in it.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (weight * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    where xhat is BatchNorm's output for x', without its affine part; each mean is one number per instance and channel.
    Gao, Han, Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y
    is sigmoid(1) = 0.731 times BatchNorm's output.

    Arguments, inputs, running statistics (which are those of x') and eval mode are IEBN's. The input is never written
    to.

    Args:
        num_features: C of an input (N, C, ...).
        momentum, epsilon, weight_attr, bias_attr, data_format, use_global_stats, name: As of `IEBN2D`.
    """

    weight_recenter: Tensor
    starts = RBN_STARTS

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        own = self.weight, self.bias, self.weight_readjust, self.bias_readjust, self.weight_recenter
        return rbn(x, RBNParameters(*own), statistics)


class RBN1D(OneAxis, _RBN):
    __doc__ = f"RBN for inputs (N, C), (N, C, L) and (N, L, C). {_RBN.__doc__}"


class RBN2D(TwoAxes, _RBN):
    __doc__ = f"RBN for inputs (N, C, H, W) and (N, H, W, C). {_RBN.__doc__}"


class RBN3D(ThreeAxes, _RBN):
    __doc__ = f"RBN for inputs (N, C, D, H, W) and (N, D, H, W, C). {_RBN.__doc__}"
