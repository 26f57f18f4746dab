"""Holders of a model from before its conversion: optimizers, parallel containers, averages of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mixlayers._core.iebn import Holder, is_copy, warn_of_holders

_AVERAGES = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "ExponentialMovingAverage")
"""Of PyTorch, timm and others, by name. They hold a copy of the model, in `module`."""


def warn(model: nn.Module, before: set[int], added: set[str]) -> None:
    """Warn of all that holds the model's former parameters, or a copy of them, and not the new ones.

    Args:
        model: After the conversion.
        before: The ids of its parameters before it.
        added: The names of the new ones.
    """
    old = {name: parameter for name, parameter in model.named_parameters() if name not in added}
    inside = {id(module) for module in model.modules()} - {id(model)}

    def role(thing: Any) -> Holder | None:
        kind = type(thing)
        if issubclass(kind, torch.optim.Optimizer):
            held = (p for group in thing.param_groups for p in group["params"])
            return "optimizer" if any(id(p) in before for p in held) else None
        if not issubclass(kind, nn.Module) or id(thing) in inside:
            return None
        if issubclass(kind, nn.parallel.DistributedDataParallel):
            return "parallel" if any(id(p) in before for p in thing.parameters()) else None
        copy = getattr(thing, "module", None) if kind.__name__ in _AVERAGES else None
        found = isinstance(copy, nn.Module) and is_copy(dict(copy.named_parameters()), old, torch.equal)
        return "copy" if found else None

    warn_of_holders(role, len(added), "or optimizer.add_param_group(iebn_parameters(model)[1])", stacklevel=6)
