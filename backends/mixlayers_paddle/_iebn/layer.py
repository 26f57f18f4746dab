"""IEBN, and what RBN shares with it, as layers that stand in for nn.BatchNorm1D, 2D, 3D and nn.SyncBatchNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import paddle
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant

from mixlayers._core.iebn import IEBN_STARTS, Parameters
from mixlayers_paddle._iebn.choose import iebn
from mixlayers_paddle._iebn.given import Statistics

CHANNELS_LAST = ("NLC", "NHWC", "NDHWC")


class PerInstance(nn.Layer):
    """A BatchNorm that reads each instance by itself: what IEBN and RBN have in common.

    Args:
        As of `IEBN2D`.
    """

    host: ClassVar[Any]
    """The layer that this one stands in for."""

    axes: ClassVar[tuple[int, ...]] = ()
    """How many axes an input may have; () for 2 and more."""

    starts: ClassVar[Mapping[str, float]]
    """The parameters that BatchNorm has not, and their first values."""

    formats: ClassVar[tuple[str, ...]] = ("NCHW", "NHWC", "NC", "NCL", "NLC", "NCDHW", "NDHWC")

    weight: Tensor | None
    bias: Tensor | None
    weight_readjust: Tensor
    bias_readjust: Tensor
    _mean: Tensor
    _variance: Tensor

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        weight_attr: Any = None,
        bias_attr: Any = None,
        data_format: str = "NCHW",
        use_global_stats: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if data_format not in self.formats:
            raise ValueError(
                f"{type(self).__name__} takes data_format {' or '.join(self.formats)}, got {data_format!r}."
            )
        self._num_features, self._momentum, self._epsilon = num_features, momentum, epsilon
        self._weight_attr, self._bias_attr, self._data_format = weight_attr, bias_attr, data_format
        self._use_global_stats, self._name = use_global_stats, name
        self._dtype = "float32" if paddle.get_default_dtype() == "float16" else paddle.get_default_dtype()
        self._cast_to_low_precision = False  # AMP's O2 keeps the parameters as they are

        def vector(attr: Any, start: float) -> Any:
            if attr is False:
                return None
            return self.create_parameter(
                [num_features], attr, self._dtype, default_initializer=Constant(start)
            )

        self.weight, self.bias = vector(weight_attr, 1.0), vector(bias_attr, 0.0)
        for kept, start in (("_mean", 0.0), ("_variance", 1.0)):
            own = None if name is None else name + kept
            attr = ParamAttr(own, Constant(start), trainable=False, do_model_average=True)
            setattr(self, kept, vector(attr, start))
            getattr(self, kept).stop_gradient = True
        for readjust, start in self.starts.items():
            setattr(
                self, readjust, vector(ParamAttr(initializer=Constant(start)), start)
            )  # no global initialiser's

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        batch = self.training if self._use_global_stats is None else not self._use_global_stats
        mode = self._use_global_stats is None
        statistics = Statistics(self._mean, self._variance, batch, 1.0 - self._momentum, self._epsilon, mode)
        if self._data_format in CHANNELS_LAST and input.ndim > 2:
            return self._normalise(input.moveaxis(-1, 1), statistics).moveaxis(1, -1)
        return self._normalise(input, statistics)

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        """The norm's output, given x (N, C, ...)."""
        raise NotImplementedError

    @classmethod
    def from_batchnorm(cls, norm: Any) -> Any:
        """A layer with the arguments of a BatchNorm (or another of this kind), its mode, and its very parameters.

        An optimizer that holds them goes on training them; it does not know the parameters that BatchNorm has not.
        """
        new = cls(norm._num_features, norm._momentum, norm._epsilon, False, False, norm._data_format)
        new.to(device=norm._mean.place, dtype=norm._mean.dtype)
        return take_over(new, norm)

    def to_batchnorm(self) -> Any:
        """The layer that this one stands in for, with its arguments and mode, and those parameters that it has."""
        new = self.host(self._num_features, self._momentum, self._epsilon, False, False, self._data_format)
        return take_over(new, self)

    def extra_repr(self) -> str:
        text = f"num_features={self._num_features}, momentum={self._momentum}, epsilon={self._epsilon}"
        if self._data_format != "NCHW":
            text += f", data_format={self._data_format}"
        return text if self._name is None else f"{text}, name={self._name}"

    def _check_input_dim(self, x: Tensor) -> None:
        if self.axes and x.ndim not in self.axes:
            wanted = " or ".join(f"{number}D" for number in self.axes)
            raise ValueError(
                f"expected {wanted} input (got {x.ndim}D input): {type(self).__name__} stands in for "
                f"{self.host.__name__}; the layer for 1D takes (N, C) and (N, C, L), for 2D (N, C, H, W), for 3D "
                "(N, C, D, H, W)."
            )
        if x.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {x.ndim}D input): (N, C) or (N, C, ...).")


class _IEBN(PerInstance):
    """Instance Enhancement Batch Normalization: BatchNorm whose scale every instance adjusts for itself.

        y = xhat * (weight * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    where xhat is BatchNorm's output without its affine part, and a is made from the raw x, one number per instance
    and channel. Liang et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise",
    AAAI 2020. At its start y is sigmoid(-1) = 0.269 times BatchNorm's output.

    In training the batch's statistics normalise, and the running ones are updated as Paddle's BatchNorm does on CPU:
    `momentum` is the share of the old value, and the variance is the biased one (PyTorch stores the unbiased one). In
    eval mode the running ones normalise, while a still comes from each instance.

    A checkpoint of BatchNorm loads by `set_state_dict`, which names the readjusting parameters as missing; they keep
    their values. One of an IEBN whose parameters are (1, C, 1, 1), as in the authors' code, goes through
    `from_official_state_dict` first; Paddle skips its tensors with a warning otherwise.

    This is not a subclass of Paddle's BatchNorm layers, since `nn.SyncBatchNorm.convert_sync_batchnorm` would replace
    those by layers without attention; now it leaves IEBN as it is, and `SyncIEBN.convert_sync_iebn` is the way. Under
    AMP its parameters stay float32 at level O2 too, as BatchNorm's do.

    Args:
        num_features: C of an input (N, C, ...).
        momentum: Share of the old value in the running statistics.
        epsilon: Added to the variance.
        weight_attr, bias_attr: Of `weight` and `bias`, (C,), as in any Paddle layer; False: there is none. The
            attention is learned in any case.
        data_format: Where the channels are.
        use_global_stats: Whether the running statistics normalise; None: in eval mode only. False uses and
            updates with each batch in eval mode too.
        name: Prefix of the names of the running statistics.

    Raises:
        ValueError: If the data format is not the host's; at the call, if the input has not the right number of axes.
    """

    starts = IEBN_STARTS

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        return iebn(x, self._given(), statistics)

    def _given(self) -> Parameters:
        return Parameters(self.weight, self.bias, self.weight_readjust, self.bias_readjust)


_SETTINGS = ("_weight_attr", "_bias_attr", "_use_global_stats", "_name", "_dtype")


def take_over(new: Any, old: Any, settings: tuple[str, ...] = _SETTINGS) -> Any:
    """Give a layer the tensors, some settings and the mode of another."""
    for name, tensor in old._parameters.items():
        if name in new._parameters or name in ("weight", "bias"):
            setattr(new, name, tensor)
    for name in settings:
        setattr(new, name, getattr(old, name))
    new.training = old.training
    return new


class OneAxis(PerInstance):
    """Inputs (N, C), (N, C, L) and (N, L, C)."""

    host, axes, formats = nn.BatchNorm1D, (2, 3), ("NCL", "NLC", "NC", "NCHW", "NHWC")

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        weight_attr: Any = None,
        bias_attr: Any = None,
        data_format: str = "NCL",
        use_global_stats: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            num_features, momentum, epsilon, weight_attr, bias_attr, data_format, use_global_stats, name
        )


class TwoAxes(PerInstance):
    """Inputs (N, C, H, W) and (N, H, W, C)."""

    host, axes, formats = nn.BatchNorm2D, (4,), ("NCHW", "NHWC")


class ThreeAxes(PerInstance):
    """Inputs (N, C, D, H, W) and (N, D, H, W, C)."""

    host, axes, formats = nn.BatchNorm3D, (5,), ("NCDHW", "NDHWC", "NCHW", "NHWC")

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        weight_attr: Any = None,
        bias_attr: Any = None,
        data_format: str = "NCDHW",
        use_global_stats: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            num_features, momentum, epsilon, weight_attr, bias_attr, data_format, use_global_stats, name
        )


class IEBN1D(OneAxis, _IEBN):
    __doc__ = f"IEBN for inputs (N, C), (N, C, L) and (N, L, C). {_IEBN.__doc__}"


class IEBN2D(TwoAxes, _IEBN):
    __doc__ = f"IEBN for inputs (N, C, H, W) and (N, H, W, C). {_IEBN.__doc__}"


class IEBN3D(ThreeAxes, _IEBN):
    __doc__ = f"IEBN for inputs (N, C, D, H, W) and (N, D, H, W, C). {_IEBN.__doc__}"


IEBN = IEBN2D
"""The name that a published Paddle class has."""


def to_official_state_dict(model: nn.Layer) -> dict[str, Any]:
    """The model's state for the authors' code, where IEBN's parameters are (1, C, 1, 1)."""
    state: dict[str, Any] = dict(model.state_dict())
    for prefix in _iebn_prefixes(state):
        for name in ("weight", "bias", *_IEBN.starts):
            if prefix + name in state:
                state[prefix + name] = state[prefix + name].reshape([1, -1, 1, 1])
    return state


def from_official_state_dict(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of the published Paddle class, where IEBN's parameters are (1, C, 1, 1), for these layers.

    Say `model.set_state_dict(from_official_state_dict(paddle.load("best_model.pdparams")))`. A state of these layers
    comes back as it is.
    """
    found = dict(state)
    for prefix in _iebn_prefixes(found):
        for name in ("weight", "bias", *_IEBN.starts):
            if prefix + name in found:
                found[prefix + name] = found[prefix + name].reshape([-1])
    return found


def _iebn_prefixes(state: Mapping[str, Any]) -> list[str]:
    """The prefixes of the names of each IEBN's parameters; RBN has one more."""
    end = "weight_readjust"
    every = (key.removesuffix(end) for key in state if key.endswith(end))
    return [prefix for prefix in every if f"{prefix}weight_recenter" not in state]
