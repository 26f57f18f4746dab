"""Paddle's answers to what a conversion asks: of layers, norms, and who may hold a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import paddle
from paddle import nn

from mixlayers._core.conversion import Conversion, Family, Holder
from mixlayers_paddle._iebn.act import IEBNAct, RBNAct
from mixlayers_paddle._iebn.layer import _IEBN, IEBN1D, IEBN2D, IEBN3D, PerInstance
from mixlayers_paddle._iebn.rbn import _RBN, RBN1D, RBN2D, RBN3D
from mixlayers_paddle._iebn.sync import SyncIEBN


def _family(name: str, kind: type[PerInstance], *layers: Any) -> Family:
    return Family(name, kind, {layer.host: layer for layer in layers})


IEBN: Final = _family("IEBN", _IEBN, IEBN1D, IEBN2D, IEBN3D, SyncIEBN, IEBNAct)
RBN: Final = _family("RBN", _RBN, RBN1D, RBN2D, RBN3D, RBNAct)

BATCH_NORM = (nn.layer.norm._BatchNormBase, nn.BatchNorm)
_HOOKS = tuple(name for name in vars(nn.Layer()) if name.startswith("_forward_"))
_AVERAGES = ("ExponentialMovingAverage", "ModelEMA", "EMA")
"""Of PaddleClas, PaddleDetection and others, by name. They hold a copy of the model, in one of `_COPIES`."""

_COPIES = ("module", "model", "ema_model")


class _Layers(Conversion):
    kind = PerInstance
    cure = "then make the optimizer"

    def layers(self, model: nn.Layer) -> dict[str, Any]:
        return dict(model.named_sublayers(include_self=True))

    def parameters(self, model: nn.Layer) -> dict[str, Any]:
        return dict(model.named_parameters())

    def is_norm(self, layer: Any) -> bool:
        return isinstance(layer, BATCH_NORM)

    def bare(self, norm: Any) -> str | None:
        return None if norm.weight is not None else "weight_attr=False"

    def make(self, norm: Any, layer: Any) -> Any:
        new = layer.from_batchnorm(norm)
        affine = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
        if affine and all(parameter.stop_gradient for parameter in affine):
            for name in new.starts:
                getattr(new, name).stop_gradient = True
        return _with_hooks_of(norm, new)

    def unmake(self, layer: Any) -> Any:
        return _with_hooks_of(layer, layer.to_batchnorm())

    def scale(self, layer: Any, power: int) -> None:
        layer.weight.set_value(layer.weight * layer.bias_readjust.sigmoid() ** power)

    def role(self, kind: type[Any]) -> Holder | None:
        if issubclass(kind, paddle.optimizer.Optimizer):
            return "optimizer"
        if issubclass(kind, paddle.DataParallel):
            return "parallel"
        return "copy" if kind.__name__ in _AVERAGES else None

    def held(self, thing: Any, role: Holder) -> Iterable[Any]:
        if role == "optimizer":
            held = thing._parameter_list or []
            return (own for each in held for own in (each["params"] if isinstance(each, dict) else [each]))
        if role == "parallel":
            parameters: Iterable[Any] = thing.parameters()
            return parameters
        copies = (getattr(thing, name, None) for name in _COPIES)
        return (copy for copy in copies if isinstance(copy, nn.Layer))

    def same(self, one: Any, other: Any) -> bool:
        return bool(one.ndim > 1 and one.shape == other.shape and paddle.equal_all(one, other))


def _with_hooks_of(old: nn.Layer, new: nn.Layer) -> nn.Layer:
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))
    return new


LAYERS: Final = _Layers()
