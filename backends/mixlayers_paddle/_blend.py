"""Carry out a blend on tensors: one kernel, whose backward is itself with the inverse permutation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.pairs import inverse
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace


class Partners:
    """A step's permutation and its inverse, moved to each place once."""

    def __init__(self, perm: Permutation) -> None:
        self.perm = perm
        self._both = np.stack((perm, inverse(perm)))
        self._moved: dict[str, tuple[Tensor, Tensor]] = {}

    def on(self, place: Any) -> tuple[Tensor, Tensor]:
        """perm and its inverse, int64 (N,) each, on the place."""
        key = str(place)
        if key not in self._moved:
            both = paddle.to_tensor(self._both, place=place)  # a GPU is waited for, once
            self._moved[key] = both[0], both[1]
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
        moved = _Rule(perm, inverted, 0.0, 1.0)(x)
        return paddle.where(mask, moved, x)
    keep: Any = how.lam
    if isinstance(keep, np.ndarray):
        keep = paddle.to_tensor(keep, place=x.place).astype(x.dtype).reshape([-1] + [1] * (x.ndim - 1))
    return _Rule(perm, inverted, keep, 1.0 - keep, mask, how.box)(x)


def replace(x: Tensor, how: Replace) -> Tensor:
    """The fill under the mask, `scale * x` elsewhere, out of place, in x's dtype and place.

    Args:
        x: Feature, batch axis first, floating point or complex.
        how: The plan, brought to x's shape.
    """
    mask = paddle.to_tensor(how.mask, place=x.place)
    fill = paddle.to_tensor(how.fill, place=x.place).astype(x.dtype)
    return paddle.where(mask, fill, x if how.scale == 1.0 else x * how.scale)


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

    def __call__(self, x: Tensor) -> Tensor:
        """Carry the rule out; nothing of x is kept for backward. Differentiable as often as you like.

        The graph holds a copy, whose hook does the rest: a PyLayer would crash Paddle 3.3 when `backward()` ran
        through it a second time.
        """
        y = x.clone()
        if not y.stop_gradient:
            y.register_hook(_Backward(self))
        with paddle.no_grad():
            self._write(x, y)
        return y

    def _write(self, x: Tensor, y: Tensor) -> None:
        """Into y, a copy of x; in place, since an allocation costs more than a pass."""
        if self.box is not None:
            y[self.box] = paddle.gather(x[self.box], self.perm)
            return
        partner = paddle.gather(x, self.perm)
        if isinstance(self.keep, Tensor):
            y.multiply_(self.keep).add_(partner.multiply_(self.give))
        elif self.keep == 0.0:
            paddle.assign(partner, y)
        else:
            y.scale_(self.keep).add_(partner.scale_(self.give))
        if self.mask is not None:
            paddle.where_(self.mask.expand(x.shape), y, x)


@dataclass(frozen=True)
class _Backward:
    """The hook on a rule's output."""

    rule: _Rule

    def __call__(self, gradient: Tensor) -> Tensor:
        with paddle.set_grad_enabled(
            not gradient.is_leaf
        ):  # only create_graph=True gives a gradient a history
            return self.rule.transposed(gradient)
