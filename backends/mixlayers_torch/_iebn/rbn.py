"""RBN as modules that stand in for nn.BatchNorm1d, 2d and 3d."""

from __future__ import annotations

from types import MappingProxyType

from torch import Tensor, nn

from mixlayers._core.iebn import RBN_STARTS, RBNParameters
from mixlayers_torch._iebn.choose import rbn
from mixlayers_torch._iebn.given import Statistics
from mixlayers_torch._iebn.layer import IEBN1d, IEBN2d, IEBN3d, PerInstance


class _RBN(PerInstance):
    """Representative Batch Normalization: BatchNorm that moves and scales each instance by what stands out in it.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (weight * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    where xhat is BatchNorm's output for x', without its affine part; each mean is one number per instance and channel.
    Gao, Han, Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y
    is sigmoid(1) = 0.731 times BatchNorm's output.

    Arguments, inputs, running statistics (which are those of x'), eval mode, and what loads are IEBN's. The authors'
    checkpoints load under their names too: center_weight, scale_weight, scale_bias. The input is never written to.

    Args:
        num_features: C of an input (N, C, ...).
        eps, momentum, affine, track_running_stats, device, dtype, bias: As of `IEBN2d`.
    """

    weight_recenter: nn.Parameter
    starts = RBN_STARTS
    theirs = MappingProxyType(
        {"weight_readjust": "scale_weight", "bias_readjust": "scale_bias", "weight_recenter": "center_weight"}
    )

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        own = self.weight, self.bias, self.weight_readjust, self.bias_readjust, self.weight_recenter
        return rbn(x, RBNParameters(*own), statistics)


class RBN1d(_RBN):
    __doc__ = f"RBN for inputs (N, C) and (N, C, L). {_RBN.__doc__}"
    host, axes = IEBN1d.host, IEBN1d.axes


class RBN2d(_RBN):
    __doc__ = f"RBN for inputs (N, C, H, W). {_RBN.__doc__}"
    host, axes = IEBN2d.host, IEBN2d.axes


class RBN3d(_RBN):
    __doc__ = f"RBN for inputs (N, C, D, H, W). {_RBN.__doc__}"
    host, axes = IEBN3d.host, IEBN3d.axes
