"""PyTorch's answers to what a conversion asks: of modules, norms, and who may hold a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import nn

from mixlayers._core.conversion import Conversion, Family, Holder
from mixlayers_torch._iebn.act import Act2d, IEBNAct2d, RBNAct2d, is_batchnorm_act
from mixlayers_torch._iebn.layer import _IEBN, IEBN1d, IEBN2d, IEBN3d, PerInstance, in_place_of
from mixlayers_torch._iebn.rbn import _RBN, RBN1d, RBN2d, RBN3d
from mixlayers_torch._iebn.sync import SyncIEBN, SyncRBN


def _family(name: str, kind: type[PerInstance], act: type[Act2d], *layers: Any) -> Family:
    return Family(name, kind, {Act2d: act} | {layer.host: layer for layer in layers})


IEBN: Final = _family("IEBN", _IEBN, IEBNAct2d, IEBN1d, IEBN2d, IEBN3d, SyncIEBN)
RBN: Final = _family("RBN", _RBN, RBNAct2d, RBN1d, RBN2d, RBN3d, SyncRBN)

_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_AVERAGES = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "ExponentialMovingAverage")
"""Of PyTorch, timm and others, by name. They hold a copy of the model, in `module`."""


class _Modules(Conversion):
    kind = PerInstance
    cure = "or optimizer.add_param_group(iebn_parameters(model)[1])"

    def layers(self, model: nn.Module) -> dict[str, Any]:
        return dict(model.named_modules())

    def parameters(self, model: nn.Module) -> dict[str, Any]:
        return dict(model.named_parameters())

    def is_norm(self, layer: Any) -> bool:
        return isinstance(layer, _BATCH_NORM) or _is_frozen(layer)

    def stand_in(self, norm: Any, family: Family) -> Any:
        return family.layers[Act2d] if is_batchnorm_act(type(norm)) else super().stand_in(norm, family)

    def bare(self, norm: Any) -> str | None:
        if getattr(norm, "weight", None) is None:
            return "affine=False"
        kept = "weight" in norm._parameters or "weight" in norm._buffers
        return None if kept else "one that is made before each call (by pruning: prune.remove makes it last)"

    def make(self, norm: nn.Module, layer: Any) -> Any:
        new = layer.from_batchnorm(norm)
        if new.affine and not any(parameter.requires_grad for parameter in norm.parameters()):
            new.requires_grad_(False)
        return new

    def unmake(self, layer: Any) -> Any:
        plain = in_place_of(layer, layer.host)
        vars(plain).pop("host", None)
        for name in layer.starts:
            del plain._parameters[name]
        return plain

    @torch.no_grad()
    def scale(self, layer: Any, power: int) -> None:
        layer.weight.mul_(layer.bias_readjust.sigmoid() ** power)

    def role(self, kind: type[Any]) -> Holder | None:
        if issubclass(kind, torch.optim.Optimizer):
            return "optimizer"
        if issubclass(kind, nn.parallel.DistributedDataParallel):
            return "parallel"
        return "copy" if issubclass(kind, nn.Module) and kind.__name__ in _AVERAGES else None

    def held(self, thing: Any, role: Holder) -> Iterable[Any]:
        if role == "optimizer":
            return (own for group in thing.param_groups for own in group["params"])
        if role == "parallel":
            parameters: Iterable[Any] = thing.parameters()
            return parameters
        copy = getattr(thing, "module", None)
        return [copy] if isinstance(copy, nn.Module) else []

    def same(self, one: Any, other: Any) -> bool:
        return one.ndim > 1 and torch.equal(one.cpu(), other.cpu())  # averages may be kept on another device


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module is a frozen norm as detectors have them: all buffers, and no BatchNorm to PyTorch."""
    return (
        "BatchNorm" in type(module).__name__
        and "running_mean" in module._buffers
        and not isinstance(module, PerInstance)
    )


MODULES: Final = _Modules()
