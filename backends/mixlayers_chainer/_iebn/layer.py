"""IEBN, and what RBN shares with it, as a link that stands in for L.BatchNormalization."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import chainer
import numpy as np
from chainer import Parameter, Variable, initializers

from mixlayers._core.iebn import IEBN_STARTS, Parameters
from mixlayers_chainer._hooks import Hooked, _hooked
from mixlayers_chainer._iebn.choose import iebn
from mixlayers_chainer._iebn.given import Statistics

Initializer = Any
"""What Chainer takes as one: a number, an array, an Initializer, None for the default."""


class PerInstance(chainer.Link):
    """A BatchNormalization that reads each instance by itself: what IEBN and RBN have in common.

    Args:
        size, decay, eps, dtype, use_gamma, use_beta, initial_gamma, initial_beta, axis: As of `IEBN`.
        initial_avg_mean, initial_avg_var, initial_weight_readjust, initial_bias_readjust: As of `IEBN`.
    """

    starts: ClassVar[Mapping[str, float]]
    """The parameters that BatchNormalization has not, and their first values."""

    gamma: Parameter | None = None
    beta: Parameter | None = None
    weight_readjust: Parameter
    bias_readjust: Parameter
    avg_mean: Any
    avg_var: Any

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        decay: float = 0.9,
        eps: float = 2e-5,
        dtype: Any = None,
        use_gamma: bool = True,
        use_beta: bool = True,
        initial_gamma: Initializer = None,
        initial_beta: Initializer = None,
        axis: int | Sequence[int] | None = None,
        initial_avg_mean: Initializer = None,
        initial_avg_var: Initializer = None,
        *,
        initial_weight_readjust: Initializer = None,
        initial_bias_readjust: Initializer = None,
    ) -> None:
        super().__init__()
        if size is None and axis is None:
            name = type(self).__name__
            raise ValueError(f"{name} needs size, as in {name}(64), or axis, as in {name}(axis=(0, 2, 3)).")
        self.axis = None if axis is None else checked_axis((axis,) if isinstance(axis, int) else tuple(axis))
        self.decay, self.eps, self.N = decay, eps, 0
        self._highprec_dtype = chainer.get_dtype(dtype, map_mixed16=np.float32)
        self._initial_avg_mean, self._initial_avg_var = initial_avg_mean, initial_avg_var
        with self.init_scope():
            if use_gamma:
                self.gamma = self._parameter(initial_gamma, 1)
            if use_beta:
                self.beta = self._parameter(initial_beta, 0)
        self.avg_mean = self.avg_var = None
        self.add_attention(initial_weight_readjust, initial_bias_readjust)
        if size is not None:
            self._initialize(size)
        for name in ("N", "avg_mean", "avg_var"):
            self.register_persistent(name)

    def add_attention(
        self, initial_weight_readjust: Initializer = None, initial_bias_readjust: Initializer = None
    ) -> None:
        """Register the parameters of `starts`, on the link's device and of its size if it has one."""
        initial = {"weight_readjust": initial_weight_readjust, "bias_readjust": initial_bias_readjust}
        with self.init_scope():
            for name, start in self.starts.items():
                setattr(self, name, self._parameter(initial.get(name), start))
        for parameter in map(self.__getattribute__, self.starts):
            if self.avg_mean is not None:
                parameter.initialize(self.avg_mean.shape)
            parameter.to_device(self.device)

    def forward(self, x: Variable, *, finetune: bool = False) -> Variable:
        """Normalise and scale.

        Args:
            x: (N, C, ...), or as `axis` says.
            finetune: In training, average the statistics over all batches since `start_finetuning`.

        Returns:
            Of x's shape and dtype.
        """
        if self.avg_mean is None and self.axis is not None:
            self._initialize(tuple(size for i, size in enumerate(x.shape) if i not in self.axis))
        axis = self.axis
        if axis is None:
            axis = (0, *range(1 + len(self.avg_mean.shape), len(x.shape)))
        training, keeping = chainer.config.train, not chainer.config.in_recomputing
        factor = 1.0 - self.decay
        if training and finetune and keeping:
            self.N += 1
            factor = 1.0 / self.N
        mean, var = (self.avg_mean, self.avg_var) if keeping or not training else (None, None)
        statistics = Statistics(
            mean, var, training, factor, self.eps, axis, self._comm() if training else None
        )
        like = self.weight_readjust.array
        with chainer.using_device(self.device):
            gamma = self.xp.ones_like(like) if self.gamma is None else self.gamma
            beta = self.xp.zeros_like(like) if self.beta is None else self.beta
        return self._normalise(x, gamma, beta, statistics)

    def _normalise(self, x: Variable, gamma: Any, beta: Any, statistics: Statistics) -> Variable:
        raise NotImplementedError

    def start_finetuning(self) -> None:
        """Forget the batches that fine-tuning has seen; needed before all but the first time."""
        self.N = 0

    def serialize(self, serializer: Callable[[str, Any], Any]) -> None:
        """Accept BatchNormalization's arrays too, without the attention."""
        missing: list[str] = []

        def lenient(name: str, value: Any) -> Any:
            try:
                return serializer(name, value)
            except KeyError:
                if name not in self.starts:
                    raise
                missing.append(name)
                return value

        lazy = self.avg_mean is None
        super().serialize(lenient)
        if missing and len(missing) < len(self.starts):
            raise KeyError(f"{missing[0]} is not in the file, but {min({*self.starts} - {*missing})} is.")
        if lazy and self.avg_mean is not None:  # loading has told the size
            self.avg_mean, self.avg_var = self.device.send(self.avg_mean), self.device.send(self.avg_var)
            for name in missing:
                getattr(self, name).initialize(self.avg_mean.shape)

    @classmethod
    def from_batchnorm(cls, norm: Any) -> Any:
        """Make a BatchNormalization, or a link of a class of its own that only normalises, one of these, in place."""
        become(norm, cls)
        norm.add_attention()
        return norm

    @property
    def printable_specs(self) -> Iterator[tuple[str, Any]]:
        """The arguments that repr shows."""
        shape: tuple[int, ...] = () if self.avg_mean is None else self.avg_mean.shape
        yield "size", (shape[0] if len(shape) == 1 else shape) or None
        for name in ("decay", "eps", "axis"):
            yield name, getattr(self, name)
        yield "dtype", np.dtype(self._highprec_dtype)
        yield "use_gamma", self.gamma is not None
        yield "use_beta", self.beta is not None

    def _comm(self) -> Any:
        """The communicator whose ranks' batches are normalised together; None: this process alone."""
        return None

    def _parameter(self, initial: Initializer, default: float) -> Parameter:
        initializer = initializers._get_initializer(default if initial is None else initial)
        initializer.dtype = self._highprec_dtype
        return Parameter(initializer)

    def _initialize(self, shape: int | tuple[int, ...]) -> None:
        for name, default in (("mean", 0), ("var", 1)):
            initial = getattr(self, f"_initial_avg_{name}")
            initializer = initializers._get_initializer(default if initial is None else initial)
            array = initializers.generate_array(
                initializer, shape, self.xp, dtype=self._highprec_dtype, device=self.device
            )
            setattr(self, f"avg_{name}", array)
        for parameter in self.params():
            parameter.initialize(shape)


class IEBN(PerInstance):
    """Instance Enhancement Batch Normalization: BatchNorm whose scale every instance adjusts for itself.

        y = xhat * (gamma * a) + beta,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    where xhat is BatchNorm's output without its affine part, and a is made from the raw x, one number per instance
    and channel. Liang et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise",
    AAAI 2020. At its start y is sigmoid(-1) = 0.269 times BatchNorm's output.

    Arguments, training, fine-tuning and testing modes, running statistics and npz keys are those of
    `L.BatchNormalization`. Its npz files load, strictly too: the readjusting parameters then keep their values.

    This is not a subclass of it, since `chainermn.links.create_mnbn_model` would replace such by a link without
    attention; now it leaves IEBN as it is, and `MultiNodeIEBN` is the way.
    The price: code that asks `isinstance(link, L.BatchNormalization)` overlooks IEBN.

    Args:
        size: Shape of the channels: an int, a tuple, or None to take it from the first input (with `axis`).
        decay: Share of the old value in the running statistics.
        eps: Added to the variance.
        dtype: Of parameters and statistics; None: `chainer.config.dtype`, float32 in mixed16.
        use_gamma, use_beta: Whether there are `gamma` and `beta`. The attention is learned in any case.
        initial_gamma, initial_beta: Initializers (1, 0).
        axis: The axes to normalise over, ascending: 0, which counts the instances, and the space. None: all but those
            of `size`, which begin at axis 1.
        initial_avg_mean, initial_avg_var: Initializers of the running statistics (0, 1).
        initial_weight_readjust, initial_bias_readjust: Initializers of the attention (0, -1).

    Attributes:
        gamma, beta: Parameters of the shape of the channels, or None.
        weight_readjust, bias_readjust: Parameters of the same shape.
        avg_mean, avg_var: Running statistics, arrays; None until the size is known.
        N: Batches seen in fine-tuning.

    Raises:
        ValueError: If neither size nor axis is given, or axis is not ascending from 0.
    """

    starts = IEBN_STARTS

    def _normalise(self, x: Variable, gamma: Any, beta: Any, statistics: Statistics) -> Variable:
        return iebn(x, Parameters(gamma, beta, self.weight_readjust, self.bias_readjust), statistics)


def become(link: chainer.Link, kind: Any) -> None:
    """Change a link's class; the hooks of a mixer stay on it."""
    link.__class__ = _hooked(kind) if isinstance(link, Hooked) else kind


def checked_axis(axis: tuple[int, ...]) -> tuple[int, ...]:
    """The axes to normalise over, if they can be.

    Raises:
        ValueError: If they are not ascending from 0.
    """
    if axis[:1] != (0,) or any(one >= other for one, other in pairwise(axis)):
        raise ValueError(
            f"axis must be ascending and begin with 0, the axis of the instances, whose attention is their own; "
            f"got {axis}. For (N, C, H, W) it is (0, 2, 3)."
        )
    return axis
