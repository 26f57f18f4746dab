"""IEBN and RBN for Flax Linen."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from flax import linen as nn

from mixlayers._core.iebn import IEBN_STARTS, RBN_STARTS
from mixlayers_jax._iebn.plain import Bare, affine, channel_axes, gated, recentred

_BATCH_NORM: Final = inspect.unwrap(nn.BatchNorm.__call__)
"""BatchNorm's call, out of sight of interceptors: a Mixer's would take it for the layer's and mix twice."""


class IEBN(nn.BatchNorm):
    """Instance Enhancement Batch Normalization: BatchNorm whose scale every sample adjusts for itself.

        y = xhat * (scale * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    xhat is BatchNorm's output without its affine part; a is made of the raw x, one number a sample and channel. Liang
    et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise", AAAI 2020. At its start y
    is sigmoid(-1) = 0.269 times BatchNorm's output.

    Attributes, statistics ("batch_stats") and parameters are those of `nn.BatchNorm`, which it stands in for; "params"
    gain `weight_readjust` and `bias_readjust`. The running variance is the biased one, and `momentum` is the old
    value's share.
    """

    @nn.compact
    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        """Normalise and scale.

        Args:
            x: Samples along the first axis.
            use_running_average, mask: As of `nn.BatchNorm`; a mean over space leaves out what the mask does.
        """
        normed = _BATCH_NORM(self, x, use_running_average, mask=mask)
        features = channel_axes(self.axis, x.ndim)
        shape = tuple(x.shape[axis] for axis in features)
        attention = _started(self, IEBN_STARTS, shape)
        bias = self.get_variable("params", "bias") if self.use_bias else None
        return gated(x, normed, bias, *attention, features=features, mask=mask)


class RBN(nn.BatchNorm):
    """Representative Batch Normalization: BatchNorm that moves and scales each sample by what stands out in it.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (scale * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    xhat is BatchNorm's output for x', without its affine part; each mean is one number a sample and channel. Gao, Han,
    Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y is
    sigmoid(1) = 0.731 times BatchNorm's output.

    Attributes, statistics ("batch_stats", of x') and parameters are those of `nn.BatchNorm`, which it stands in for;
    "params" gain `weight_readjust`, `bias_readjust` and `weight_recenter`.
    """

    @nn.compact
    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        """Normalise and scale.

        Args:
            x, use_running_average, mask: As of `IEBN`.
        """
        features = channel_axes(self.axis, x.ndim)
        shape = tuple(x.shape[axis] for axis in features)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype) if self.use_scale else None
        bias = self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None
        *attention, recenter = _started(self, RBN_STARTS, shape)
        x = recentred(x, recenter, features=features, mask=mask)
        xhat = _BATCH_NORM(Bare(self, use_scale=False, use_bias=False), x, use_running_average, mask=mask)
        normed = affine(xhat, scale, bias, features, self.dtype)
        return gated(xhat, normed, bias, *attention, features=features, mask=mask)


def _started(layer: nn.BatchNorm, starts: Mapping[str, float], shape: tuple[int, ...]) -> list[Any]:
    """The parameters that BatchNorm has not."""
    return [
        layer.param(name, nn.initializers.constant(start), shape, layer.param_dtype)
        for name, start in starts.items()
    ]
