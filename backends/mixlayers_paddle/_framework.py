"""PaddlePaddle's side of the core's operations."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from mixlayers import MixingError
from mixlayers._framework import Framework, check_columns
from mixlayers._lam import Lam
from mixlayers._pairs import Permutation
from mixlayers._plan import Blend
from mixlayers._replace import Replace
from mixlayers_paddle._blend import Partners, blend, replace, share_on

_BACKWARD = frozenset(
    inspect.unwrap(f).__code__ for f in (Tensor.backward, paddle.autograd.backward, paddle.grad)
)
"""What a backward pass runs in."""

_RECOMPUTE = import_module(
    "paddle.distributed.fleet.recompute.recompute"
)  # its package hides it by a function
_SEGMENT = inspect.unwrap(_RECOMPUTE._recompute_without_reentrant).__code__
_SEGMENT_CODES = frozenset(
    [_SEGMENT, *(code for code in _SEGMENT.co_consts if getattr(code, "co_name", None) == "unpack")]
)
"""`recompute(..., use_reentrant=False)`, and what runs it again."""


class Paddle(Framework):
    """PaddlePaddle's tensors and layers."""

    module = nn.Layer

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, Tensor | paddle.pir.Value)

    def is_float(self, x: Tensor) -> bool:
        return bool(x.is_floating_point() or x.is_complex())

    def wants_gradient(self, x: Tensor) -> bool:
        return not x.stop_gradient

    def move_axis(self, x: Tensor, source: int, destination: int) -> Tensor:
        return paddle.moveaxis(x, source, destination)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        return paddle.maximum(x, y)

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        return paddle.concat(list(parts))

    def full(self, size: int, value: float, beside: Tensor) -> Tensor:
        return paddle.full([size], value, "float32")._to(beside.place)

    def to_numpy(self, x: Tensor) -> np.ndarray[Any, Any]:
        return x.detach().numpy()

    def one_hot(self, y: Tensor, num_classes: int) -> Tensor:
        if self.is_float(y):
            check_columns(y, num_classes)
            return y
        return F.one_hot(class_labels(y), num_classes)

    def partners(self, perm: Permutation) -> Partners:
        return Partners(perm)

    def blend(self, x: Tensor, how: Blend, partners: Partners) -> Tensor:
        return blend(x, how, partners)

    def replace(self, x: Tensor, how: Replace) -> Tensor:
        return replace(x, how)

    def share(self, s: Lam, beside: Tensor) -> float | Tensor:
        return share_on(s, beside.place)

    def grad_enabled(self) -> bool:
        return paddle.is_grad_enabled()

    def in_backward(self) -> bool:
        """Paddle's own flag is lost when the backward pass inside `recompute` ends: the stack knows."""
        if paddle.base.core.eager._is_run_in_backward():
            return True
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code in _BACKWARD:
                return True
            frame = frame.f_back
        return False

    def segments(self) -> list[dict[Any, Any]]:
        """Paddle runs a backward pass through several forwards in any order: each segment must know its own.

        Recomputation is a PyLayer, whose context is the same in forward and backward, or (`use_reentrant=False`)
        a function whose variables are.
        """
        found = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_varnames[:1] == ("ctx",):
                keeper = frame.f_locals.get("ctx")
                if isinstance(keeper, paddle.autograd.PyLayerContext):
                    found.append(vars(keeper).setdefault("mixlayers_plans", {}))
            elif code in _SEGMENT_CODES:
                keeper = frame.f_locals.get("storage")
                if keeper is not None:  # not yet made while the arguments are prepared
                    found.append(vars(keeper).setdefault("mixlayers_plans", {}))
            frame = frame.f_back
        return found

    def rank(self) -> int:
        return paddle.distributed.get_rank()

    def check_mixing(self) -> None:
        if not paddle.in_dynamic_mode():
            raise MixingError(
                "a static trace would mix every step by the plan of this one: mix outside paddle.jit.to_static, "
                "at the input (layers='input'), or trace with full_graph=False."
            )


PADDLE = Paddle()


def class_labels(y: Tensor) -> Tensor:
    """Class indices as (N, ...): Paddle's data sets and losses have them as (N, 1) too."""
    return y.squeeze(-1) if y.ndim > 1 and y.shape[-1] == 1 else y
