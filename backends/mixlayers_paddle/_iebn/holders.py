"""Holders of a model from before its conversion: optimizers, parallel containers, averages of weights."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn

from mixlayers._core.iebn import Holder, is_copy, warn_of_holders

_AVERAGES = ("ExponentialMovingAverage", "ModelEMA", "EMA")
"""Of PaddleClas, PaddleDetection and others, by name. They hold a copy of the model, in one of `_COPIES`."""

_COPIES = ("module", "model", "ema_model")


def warn(model: nn.Layer, before: set[int], added: set[str]) -> None:
    """Warn of all that holds the model's former parameters, or a copy of them, and not the new ones.

    Args:
        model: After the conversion.
        before: The ids of its parameters before it.
        added: The names of the new ones.
    """
    old = {name: parameter for name, parameter in model.named_parameters() if name not in added}

    def role(thing: Any) -> Holder | None:
        kind = type(thing)
        if issubclass(kind, paddle.optimizer.Optimizer):
            held = thing._parameter_list or []
            tensors = (p for each in held for p in (each["params"] if isinstance(each, dict) else [each]))
            return "optimizer" if any(id(p) in before for p in tensors) else None
        if issubclass(kind, paddle.DataParallel):
            return "parallel" if any(id(p) in before for p in thing.parameters()) else None
        if kind.__name__ not in _AVERAGES:
            return None
        copies = (getattr(thing, name, None) for name in _COPIES)
        others = (
            dict(copy.named_parameters())
            for copy in copies
            if isinstance(copy, nn.Layer) and copy is not model
        )
        return "copy" if any(is_copy(other, old, _same) for other in others) else None

    warn_of_holders(role, len(added), "then make the optimizer", stacklevel=6)


def _same(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and paddle.equal_all(one, other))
