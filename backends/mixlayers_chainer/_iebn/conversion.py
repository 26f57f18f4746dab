"""Chainer's answers to what a conversion asks: of links, which change their class in place, and a model's holders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import chainer
import chainer.functions as F
import chainer.links as L
from chainer.training.updaters import ParallelUpdater

from mixlayers._core.conversion import Conversion, Family, Holder
from mixlayers_chainer._hooks import _plain, named_layers
from mixlayers_chainer._iebn import layer as links
from mixlayers_chainer._iebn import rbn
from mixlayers_chainer._iebn.layer import PerInstance, become, checked_axis

IEBN: Final = Family("IEBN", links.IEBN, {L.BatchNormalization: links.IEBN})
RBN: Final = Family("RBN", rbn.RBN, {L.BatchNormalization: rbn.RBN})


class _Links(Conversion):
    kind, norm, weight = PerInstance, "L.BatchNormalization", "gamma"
    hint = " chainermn.links.create_mnbn_model comes after the conversion."
    cure = (
        "or go on with `for p in iebn_parameters(model)[1]: p.update_rule = optimizer.create_update_rule()`"
    )

    def layers(self, model: chainer.Link) -> dict[str, Any]:
        return {"": model, **dict(named_layers(model))}

    def parameters(self, model: chainer.Link) -> dict[str, Any]:
        first = {id(own): (name, own) for name, own in reversed(list(model.namedparams()))}
        return dict(reversed(first.values()))

    def is_norm(self, layer: Any) -> bool:
        return isinstance(layer, L.BatchNormalization)

    def type_of(self, norm: Any) -> type[Any]:
        return _plain(type(norm))

    def refusal(self, norm: Any) -> str | None:
        try:
            checked_axis((0,) if norm.axis is None else tuple(norm.axis))
        except ValueError as error:
            return str(error)
        return None

    def bare(self, norm: Any) -> str | None:
        if norm.gamma is None:
            return "use_gamma=False"
        return None if norm.gamma.is_initialized else "no size yet (run the model once)"

    def make(self, norm: Any, layer: Any) -> Any:
        return layer.from_batchnorm(norm)

    def unmake(self, layer: Any) -> Any:
        for name in layer.starts:
            delattr(layer, name)
        vars(layer).pop("comm", None)
        become(layer, L.BatchNormalization)

    def place(self, model: chainer.Link, new: Mapping[int, Any]) -> Any:
        return model

    def numbers(self, layer: Any) -> Any:
        return layer.gamma.array

    def folds(self, layer: Any) -> bool:
        return self.bare(layer) is None and all(
            not getattr(layer, name).array.any() for name, start in layer.starts.items() if start == 0.0
        )

    def scale(self, layer: Any, power: int) -> None:
        gamma = layer.gamma.array
        with chainer.using_device(layer.device), chainer.no_backprop_mode():
            gamma *= (F.sigmoid(layer.bias_readjust).array ** power).astype(gamma.dtype)

    def size(self, parameter: Any) -> int:
        return int(parameter.size) if parameter.is_initialized else 0

    def role(self, kind: type[Any]) -> Holder | None:
        if issubclass(kind, chainer.Optimizer):
            return "optimizer"
        return "copy" if issubclass(kind, ParallelUpdater) else None

    def held(self, thing: Any, role: Holder) -> Iterable[Any]:
        if role == "copy":
            models: Iterable[Any] = thing._models.values()
            return models
        held = () if thing.target is None else thing.target.params()
        return (own for own in held if own.update_rule is not None and own.update_rule.enabled)

    def same(self, one: Any, other: Any) -> bool:
        there, here = one.array, other.array
        if there is None or here is None or there.ndim < 2 or there.shape != here.shape:
            return False
        return bool((there == here).all())


LINKS: Final = _Links()
