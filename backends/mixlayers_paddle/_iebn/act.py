"""IEBN and RBN in the place of paddle.nn.BatchNorm, the older layer: of any number of axes, with an activation."""

from __future__ import annotations

from typing import Any

import paddle.nn.functional as F
from paddle import Tensor, nn

from mixlayers_paddle._iebn.layer import _IEBN, PerInstance, take_over
from mixlayers_paddle._iebn.rbn import _RBN


class _Act(PerInstance):
    """A norm for inputs (N, C, ...) or (N, ..., C), then the activation: conversions make it of PaddleClas' norms."""

    host, formats = nn.BatchNorm, ("NCHW", "NHWC")
    _act: str | None = None

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        return y if self._act is None else getattr(F, self._act)(y)

    @classmethod
    def from_batchnorm(cls, norm: Any) -> Any:
        """A layer with the arguments of a BatchNorm, its mode, and its very parameters."""
        size, settings = norm._mean.shape[0], (norm._momentum, norm._epsilon)
        new = cls(size, *settings, False, False, norm._data_layout)
        new.to(device=norm._mean.place, dtype=norm._mean.dtype)
        new._act = norm._act
        new._use_global_stats = (
            True if norm._use_global_stats else False if norm._trainable_statistics else None
        )
        return take_over(new, norm, ("_dtype",))

    def to_batchnorm(self) -> Any:
        """The layer that this one stands in for, with its arguments and mode, and those parameters that it has."""
        new = nn.BatchNorm(
            self._num_features,
            act=self._act,
            momentum=self._momentum,
            epsilon=self._epsilon,
            param_attr=False,
            bias_attr=False,
            data_layout=self._data_format,
            use_global_stats=self._use_global_stats is True,
            trainable_statistics=self._use_global_stats is False,
        )
        return take_over(new, self, ("_dtype",))


class IEBNAct(_Act, _IEBN):
    """IEBN, then the activation."""


class RBNAct(_Act, _RBN):
    """RBN, then the activation."""
