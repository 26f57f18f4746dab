"""IEBN as modules that stand in for nn.BatchNorm1d, 2d, 3d and nn.SyncBatchNorm."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torch.fx
from torch import Tensor, nn

from mixlayers._core.iebn import IEBN_STARTS, Parameters
from mixlayers_torch._iebn.choose import iebn
from mixlayers_torch._iebn.given import Statistics

_PROXY: Any = torch.fx.Proxy


class PerInstance(nn.Module):
    """A BatchNorm that reads each instance by itself: what IEBN and RBN have in common.

    Args:
        As of `IEBN2d`.
    """

    host: ClassVar[type[nn.Module]]
    """The layer that this one stands in for."""

    axes: ClassVar[tuple[int, ...]] = ()
    """How many axes an input may have; () for 2 and more."""

    starts: ClassVar[Mapping[str, float]]
    """The parameters that BatchNorm has not, and their first values."""

    theirs: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Their names in the authors' code, where it has others."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    weight_readjust: nn.Parameter
    bias_readjust: nn.Parameter
    num_batches_tracked: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    _version = 2  # as BatchNorm's, whose checkpoints of version 1 have no num_batches_tracked

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats

        def vector() -> Tensor:
            return torch.empty(num_features, device=device, dtype=dtype)

        self.register_parameter("weight", nn.Parameter(vector()) if affine else None)
        self.register_parameter("bias", nn.Parameter(vector()) if affine and bias else None)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, vector() if track_running_stats else None)
        count = torch.tensor(0, dtype=torch.long, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        for name in self.starts:
            self.register_parameter(name, nn.Parameter(vector()))
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.fill_(value)

    def reset_parameters(self) -> None:
        """The values of a new layer, statistics too: weight 1, bias 0, and `starts`."""
        self.reset_running_stats()
        starts = {"weight": 1.0, "bias": 0.0, **self.starts}
        for name, parameter in self.named_parameters(recurse=False):
            nn.init.constant_(parameter, starts[name])

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, _PROXY):  # one node of the graph, as PyTorch's own layers are
            return input.tracer.create_proxy("call_module", input.tracer.path_of_module(self), (input,), {})
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        tracking = self.training and self.track_running_stats
        if tracking and (seen := self.num_batches_tracked) is not None:
            seen.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(seen)
        kept = tracking or not self.training
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        batch = self.training or (mean is None and var is None)
        statistics = Statistics(mean, var, batch, factor, self.eps, self._group() if batch else None)
        return self._normalise(input, statistics)

    @classmethod
    def from_batchnorm(cls, norm: Any) -> Any:
        """A layer with all that a BatchNorm (or another of this kind) has: arguments, mode, hooks, its very tensors.

        An optimizer that holds them goes on training them; it does not know the parameters that BatchNorm has not.
        """
        new = in_place_of(norm, cls)
        like = next(itertools.chain(new.parameters(), new.buffers()), None)
        options = {} if like is None else {"device": like.device, "dtype": like.dtype}
        for name, start in cls.starts.items():
            if name not in new._parameters:
                setattr(new, name, nn.Parameter(torch.full((norm.num_features,), start, **options)))
        return new

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _check_input_dim(self, x: Tensor) -> None:
        if self.axes and x.dim() not in self.axes:
            wanted = " or ".join(f"{number}D" for number in self.axes)
            raise ValueError(
                f"expected {wanted} input (got {x.dim()}D input): {type(self).__name__} stands in for "
                f"{self.host.__name__}; the layer for 1d takes (N, C) and (N, C, L), for 2d (N, C, H, W), for 3d "
                "(N, C, D, H, W)."
            )
        if x.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {x.dim()}D input): (N, C) or (N, C, ...).")

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        raise NotImplementedError

    def _group(self) -> Any:
        """The processes whose batches are normalised together; None: this one alone."""
        return None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Accept BatchNorm's state, without our parameters, and the authors', of shape (1, C, 1, 1)."""
        own = dict(self.named_parameters(recurse=False))
        for name, their in self.theirs.items():
            if prefix + their in state_dict:
                state_dict[prefix + name] = state_dict.pop(prefix + their)
        for name, parameter in own.items():
            loaded = state_dict.get(prefix + name)
            if isinstance(loaded, Tensor) and loaded.dim() == 4 and loaded.shape == (1, len(parameter), 1, 1):
                state_dict[prefix + name] = loaded.view(-1)
        from_batchnorm = any(prefix + name in state_dict for name in ("weight", "running_mean"))
        if from_batchnorm and not any(prefix + name in state_dict for name in self.starts):
            for name, start in self.starts.items():
                known, like = not own[name].is_meta, state_dict.get(prefix + "weight", own[name])
                state_dict[prefix + name] = (
                    own[name].detach().clone()
                    if known
                    else torch.full((self.num_features,), start, dtype=like.dtype)
                )
        if local_metadata.get("version", 1) < 2 and self.num_batches_tracked is not None:
            count = self.num_batches_tracked
            state_dict.setdefault(prefix + "num_batches_tracked", torch.tensor(0) if count.is_meta else count)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class _IEBN(PerInstance):
    """Instance Enhancement Batch Normalization: BatchNorm whose scale every instance adjusts for itself.

        y = xhat * (weight * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    where xhat is BatchNorm's output without its affine part, and a is made from the raw x, one number per instance
    and channel. Liang et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise",
    AAAI 2020. At its start y is sigmoid(-1) = 0.269 times BatchNorm's output.

    In training the batch's statistics normalise, and the running ones are updated as BatchNorm's; in eval mode the
    running ones normalise, while a still comes from each instance.

    A checkpoint of BatchNorm loads with `strict=True`: the readjusting parameters keep their values. So does one of
    the authors' code, whose parameters are (1, C, 1, 1). Where DataParallel put `module.` before every key, drop it
    by `torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(state_dict, "module.")`, as for any model.

    This is not a subclass of torch's batch norms, since `nn.SyncBatchNorm.convert_sync_batchnorm` would replace
    those by layers without attention; now it leaves IEBN as it is, and `SyncIEBN.convert_sync_iebn` is the way.
    The price: code that asks `isinstance(m, nn.BatchNorm2d)`, as `torch.optim.swa_utils.update_bn` does,
    overlooks IEBN; `mixlayers.torch.update_bn` does not.

    Args:
        num_features: C of an input (N, C, ...).
        eps: Added to the variance.
        momentum: Share of the new batch in the running statistics; None: their average over all batches.
        affine: Whether there are `weight` and `bias`, (C,) each. The attention is learned in any case.
        track_running_stats: Whether to keep running statistics; without them the batch's serve in eval mode too.
        device, dtype: Of parameters and buffers.
        bias: Whether there is a `bias`, if affine.

    Raises:
        ValueError: At the call, if the input has not the right number of axes, or in training one value a channel.
    """

    starts = IEBN_STARTS

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        parameters = Parameters(self.weight, self.bias, self.weight_readjust, self.bias_readjust)
        return iebn(x, parameters, statistics)


class IEBN1d(_IEBN):
    __doc__ = f"IEBN for inputs (N, C) and (N, C, L). {_IEBN.__doc__}"
    host, axes = nn.BatchNorm1d, (2, 3)


class IEBN2d(_IEBN):
    __doc__ = f"IEBN for inputs (N, C, H, W). {_IEBN.__doc__}"
    host, axes = nn.BatchNorm2d, (4,)


class IEBN3d(_IEBN):
    __doc__ = f"IEBN for inputs (N, C, D, H, W). {_IEBN.__doc__}"
    host, axes = nn.BatchNorm3d, (5,)


def in_place_of(norm: nn.Module, kind: type[Any]) -> Any:
    """A module of another kind with everything that a norm has; what both write to later is each one's own."""
    new: Any = object.__new__(kind)
    vars(new).update(vars(norm))
    for name in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        vars(new)[name] = copy.copy(vars(norm)[name])
    return new


def to_official_state_dict(model: nn.Module) -> dict[str, Any]:
    """The model's state for the authors' code, where IEBN's parameters are (1, C, 1, 1).

    Keys are ours, which are theirs; add `module.` where their model is in DataParallel. Tensors are views.
    """
    state = model.state_dict()
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, _IEBN):
            for key, _ in module.named_parameters(recurse=False):
                key = f"{name}.{key}" if name else key
                state[key] = state[key].view(1, -1, 1, 1)
    return state
