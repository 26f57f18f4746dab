"""Carry out a blend on tensors: one kernel, whose backward is itself with the inverse permutation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from mixlayers._lam import Lam
from mixlayers._pairs import Permutation, inverse
from mixlayers._plan import Blend

_SMALL = 1e-3
"""Below, give / keep could overflow: the sum is then weighed in another order."""


class Partners:
    """A step's permutation and its inverse, moved to each place once."""

    def __init__(self, perm: Permutation) -> None:
        self._both = perm, inverse(perm)
        self._moved: dict[str, tuple[Tensor, Tensor]] = {}

    def on(self, place: Any) -> tuple[Tensor, Tensor]:
        """perm and its inverse, int64 (N,) each, on the place."""
        key = str(place)
        if key not in self._moved:
            perm, inverted = self._both
            self._moved[key] = paddle.to_tensor(perm, place=place), paddle.to_tensor(inverted, place=place)
        return self._moved[key]

    def of(self, target: Tensor) -> Tensor:
        """`target[perm]`."""
        return paddle.gather(target, self.on(target.place)[0])


def share_on(s: Lam, place: Any) -> float | Tensor:
    """A share as blend() in MixedTarget takes it: a float, or float32 (N,) on the place."""
    return paddle.to_tensor(s, place=place) if isinstance(s, np.ndarray) else s


def blend(x: Tensor, how: Blend, partners: Partners) -> Tensor:
    """`x + w * (x[perm] - x)` with `w = mask * (1 - lam)`, out of place, in x's dtype and place.

    Where the mask is False, x is selected, not multiplied: a partner's NaN or inf stays under the mask.

    Args:
        x: Feature, batch axis first, floating point or complex.
        how: The plan, brought to x's shape.
        partners: The plan's permutation.
    """
    perm, inverted = partners.on(x.place)
    mask = None if how.mask is None or how.box is not None else paddle.to_tensor(how.mask, place=x.place)
    if mask is not None and len(mask) > 1:  # a box per sample, lam = 0
        moved = _Blend.apply(x, _Rule(perm, inverted, 0.0, 1.0))
        return paddle.where(mask, moved, x)
    keep: Any = how.lam
    if isinstance(keep, np.ndarray):
        keep = paddle.to_tensor(keep, place=x.place).astype(x.dtype).reshape([-1] + [1] * (x.ndim - 1))
    return _Blend.apply(x, _Rule(perm, inverted, keep, 1.0 - keep, mask, how.box))


@dataclass(frozen=True)
class _Rule:
    """y_i = keep_i * x_i + give_i * x_perm(i) under the mask, x_i elsewhere."""

    perm: Tensor
    inverted: Tensor
    keep: float | Tensor
    give: float | Tensor
    mask: Tensor | None = None
    box: tuple[slice, ...] | None = None

    @property
    def transposed(self) -> _Rule:
        give = self.give if isinstance(self.give, float) else paddle.gather(self.give, self.inverted)
        return _Rule(self.inverted, self.perm, self.keep, give, self.mask, self.box)


class _Blend(paddle.autograd.PyLayer):
    """A rule carried out; nothing of x is kept for backward. Differentiable as often as you like."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: _Rule) -> Tensor:
        ctx.rule = rule
        if rule.box is not None:
            result = x.clone()
            result[rule.box] = paddle.gather(x[rule.box], rule.perm)
            return result
        mixed = _gather_add(x, rule)
        if rule.mask is None:
            return mixed
        return paddle.where_(rule.mask.expand(x.shape), mixed, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Blend.apply(gradient, ctx.rule.transposed)


def _gather_add(x: Tensor, rule: _Rule) -> Tensor:
    """keep * x + give * x[perm], a fresh tensor, the weighing in place: an allocation costs more than a pass."""
    partner, keep, give = paddle.gather(x, rule.perm), rule.keep, rule.give
    if isinstance(keep, Tensor):
        return partner.multiply_(give).add_(x * keep)
    if keep == 0.0:
        return partner
    if keep < _SMALL:
        return partner.scale_(give).add_(x.scale(keep))
    return partner.scale_(give / keep).add_(x).scale_(keep)
