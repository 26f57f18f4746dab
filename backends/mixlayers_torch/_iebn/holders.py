"""Who knew a model before its norms were converted: optimizers, parallel containers, averages of weights."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_AVERAGES = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "ExponentialMovingAverage")
"""Of PyTorch, timm and others, by name. They hold a copy of the model, in `module`."""


def warn_of_holders(model: nn.Module, before: set[int], added: set[str]) -> None:
    """Warn of all that holds the model's former parameters, or a copy of them, and not the new ones.

    Args:
        model: After the conversion.
        before: The ids of its parameters before it.
        added: The names of the new ones.
    """
    old = {name: parameter for name, parameter in model.named_parameters() if name not in added}
    inside = {id(module) for module in model.modules()}
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, torch.optim.Optimizer):
            if any(id(parameter) in before for group in thing.param_groups for parameter in group["params"]):
                _warn(
                    f"this {kind.__name__} was made before the conversion and will not train the {len(added)} new "
                    "parameters: convert first, or optimizer.add_param_group(iebn_parameters(model)[1])."
                )
        elif not issubclass(kind, nn.Module) or id(thing) in inside - {id(model)}:
            continue
        elif issubclass(kind, nn.parallel.DistributedDataParallel):
            if any(id(parameter) in before for parameter in thing.parameters()):
                _warn(
                    f"this {kind.__name__} was made before the conversion: it will not synchronise the gradients of "
                    f"the {len(added)} new parameters, so that processes drift apart. Convert first, then wrap the "
                    "model in it."
                )
        elif kind.__name__ in _AVERAGES and _is_copy(getattr(thing, "module", None), old):
            _warn(
                f"this {kind.__name__} holds a copy of the model from before the conversion, whose norms are still "
                "BatchNorm: convert first, then make the average."
            )


def _is_copy(model: Any, old: Mapping[str, Tensor]) -> bool:
    """Whether a model has these parameters, one of more than one axis still with the same numbers: chance made it."""
    if not isinstance(model, nn.Module):
        return False
    theirs = dict(model.named_parameters())
    alike = (
        theirs[name].equal(own) for name, own in old.items() if own.ndim > 1 and theirs.keys() == old.keys()
    )
    return any(alike)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=5)  # of who called convert_iebn
