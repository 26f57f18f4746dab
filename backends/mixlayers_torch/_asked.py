"""PyTorch's own losses of a mixed target: `F.cross_entropy(output, target)`, `nn.CrossEntropyLoss()(output, target)`.

PyTorch asks a target that is no tensor what a function of it is; here are the answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import signature
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from mixlayers import MixedTarget
from mixlayers._core.labels.target import WAY_OUT
from mixlayers_torch._framework import TORCH
from mixlayers_torch._loss import cross_entropy, negative_log_likelihood

_ELEMENTWISE: Final = (
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.kl_div,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
)
"""Losses with one value for each number of the output."""

_WEIGHTED_MEANS: Final = (F.mse_loss, F.l1_loss)
"""Those whose mean is over their weights; `huber_loss` and the binary ones divide by the number of values."""

_NAMES: Final = {
    loss: tuple(signature(loss).parameters) for loss in (F.cross_entropy, F.nll_loss, *_ELEMENTWISE)
}


def asked(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One of PyTorch's functions of a mixed target.

    Raises:
        TypeError: If it is no loss, or the target is not its second argument.
    """
    if func not in _NAMES:
        name = getattr(func, "__name__", str(func))
        raise TypeError(f"{name} takes tensors, got a MixedTarget: {WAY_OUT}")
    given = {**dict(zip(_NAMES[func], args, strict=False)), **kwargs}
    if func is F.l1_loss and "weight" not in given:
        given["weight"] = _weight_of_l1()
    output, target = given.pop("input"), given.pop("target")
    if isinstance(output, MixedTarget) or not isinstance(target, MixedTarget):
        raise TypeError(f"{func.__name__}(output, target) takes the mixed target second: {WAY_OUT}")
    average, reduce = given.pop("size_average", None), given.pop("reduce", None)
    if average is not None or reduce is not None:
        given["reduction"] = "none" if reduce is False else "sum" if average is False else "mean"
    if func is F.cross_entropy:
        return cross_entropy(output, target, **given)
    if func is F.nll_loss:
        return negative_log_likelihood(output, target, **given)
    return _elementwise(func, output, target, given)


def _elementwise(
    func: Callable[..., Tensor], output: Tensor, target: MixedTarget, given: dict[str, Any]
) -> Tensor:
    reduction = given.pop("reduction", "mean")
    weight = given.get("weight") if func in _WEIGHTED_MEANS else None
    if weight is not None:
        _check_weight(weight, output)
        del given[
            "weight"
        ]  # multiplied below: compiled, PyTorch 2.13's `F.l1_loss` forgets it, for plain labels too
    loss: Tensor = target.blend_elements(lambda y: func(output, y, **given, reduction="none"), TORCH)
    loss = loss if weight is None else loss * weight
    if reduction == "mean":
        loss = loss.mean() if weight is None else loss.sum() / weight.sum()
    elif reduction == "sum":
        loss = loss.sum()
    elif reduction == "batchmean":
        loss = loss.sum() / output.shape[0]
    elif reduction != "none":
        raise ValueError(f"{reduction} is not a valid value for reduction")  # as PyTorch has it
    return loss if target.loss_scale == 1.0 else loss * target.loss_scale


def _check_weight(weight: Tensor, output: Tensor) -> None:
    if weight.shape != output.shape:  # as PyTorch has it
        raise ValueError(
            f"Weights and input must have the same size, got {tuple(weight.shape)} and {tuple(output.shape)}"
        )


def _weight_of_l1() -> Tensor | None:
    """The weight that `F.l1_loss` was called with, which it does not hand on; but torch.compile hands on the call."""
    if torch.compiler.is_compiling():
        return None
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not F.l1_loss.__code__:
        frame = frame.f_back
    weight: Tensor | None = frame.f_locals.get("weight") if frame.f_code is F.l1_loss.__code__ else None
    return weight


def loose(s: float, exact: Any) -> Any:
    """A share; in a graph as a tensor, for torch.compile makes a graph for each number that it meets."""
    return torch.as_tensor(exact) if torch.compiler.is_compiling() else s


def fit(s: Any, value: Any) -> Any:
    """A share that is a tensor for one number, in the precision of what it is to weigh, lest it raise that."""
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return s.to(value.dtype) if floating and isinstance(s, Tensor) and not s.ndim else s


MixedTarget._torch_function = staticmethod(asked)
MixedTarget._fit = staticmethod(fit)
MixedTarget._loose = staticmethod(loose)
