"""Carry out a blend on arrays: one function node, whose backward is itself with the inverse permutation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import chainer
import chainer.functions as F
import numpy as np
from chainer import FunctionNode, Variable, backend

from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.pairs import inverse
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace

Array = Any
"""A NumPy, CuPy or ChainerX array."""

_LARGE = 2**13
"""Elements of a sample from which NumPy is faster sample by sample."""


def device_of(x: Variable | Array) -> backend.Device:
    """The device that holds x."""
    return backend.get_device_from_array(chainer.as_array(x))


class Partners:
    """A step's permutation and its inverse, moved to each device once."""

    def __init__(self, perm: Permutation) -> None:
        self.perm = perm
        self._both = perm, inverse(perm)
        self._moved: dict[str, tuple[Array, Array]] = {}

    def on(self, device: backend.Device) -> tuple[Array, Array]:
        """perm and its inverse, int64 (N,) each, on the device."""
        key = str(device)
        if key not in self._moved:
            perm, inverted = self._both
            self._moved[key] = device.send(perm), device.send(inverted)
        return self._moved[key]

    def of(self, target: Variable | Array) -> Variable | Array:
        """`target[perm]`, a Variable of a Variable."""
        return _apply(target, _Rule(*self.on(device_of(target)), 0.0, 1.0))


def blend(x: Variable | Array, how: Blend, partners: Partners) -> Variable | Array:
    """`x + w * (x[perm] - x)` with `w = mask * (1 - lam)`, out of place, in x's dtype and on its device.

    Where the mask is False, x is selected, not multiplied: a partner's NaN or inf stays under the mask.

    Args:
        x: Feature, batch axis first, floating point or complex; an array gives an array.
        how: The plan, brought to x's shape.
        partners: The plan's permutation.
    """
    device = device_of(x)
    perm, inverted = partners.on(device)
    mask = None if how.mask is None or how.box is not None else device.send(how.mask)
    if mask is not None and len(mask) > 1:  # a box per sample, lam = 0
        mixed = F.where(mask, *_Blend(_Rule(perm, inverted, 0.0, 1.0)).apply((x,)), x)
        return mixed if isinstance(x, Variable) else mixed.array
    keep: Any = how.lam
    if isinstance(keep, np.ndarray):
        keep = device.send(keep.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1)))
    with chainer.using_device(device):
        rule = _Rule(perm, inverted, keep, 1.0 - keep, mask, how.box)
    return _apply(x, rule)


def replace(x: Variable | Array, how: Replace) -> Variable | Array:
    """The fill under the mask, `scale * x` elsewhere, out of place, in x's dtype and on its device.

    Args:
        x: Feature, batch axis first, floating point or complex; an array gives an array.
        how: The plan, brought to x's shape.
    """
    device = device_of(x)
    with chainer.using_device(device):
        fill = device.send(how.fill.astype(x.dtype))
        kept = x if how.scale == 1.0 else x * how.scale
        replaced = F.where(device.send(how.mask), fill, kept)
    return replaced if isinstance(x, Variable) else replaced.array


def share_on(s: Lam, device: backend.Device) -> float | Array:
    """A share as blend() in MixedTarget takes it: a float, or float32 (N,) on the device."""
    return device.send(s) if isinstance(s, np.ndarray) else s


@dataclass(frozen=True)
class _Rule:
    """y_i = keep_i * x_i + give_i * x_perm(i) under the mask, x_i elsewhere. The weights are floats, or (N, 1, ...)."""

    perm: Array
    inverted: Array
    keep: Any
    give: Any
    mask: Array | None = None
    box: tuple[slice, ...] | None = None

    @property
    def transposed(self) -> _Rule:
        give = self.give if isinstance(self.give, float) else self.give[self.inverted]
        return _Rule(self.inverted, self.perm, self.keep, give, self.mask, self.box)


class _Blend(FunctionNode):
    """A rule carried out; nothing of x is kept for backward. Differentiable as often as you like."""

    def __init__(self, rule: _Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, inputs: tuple[Array]) -> tuple[Array]:
        (x,), rule = inputs, self.rule
        if rule.box is not None:
            mixed = x.copy()
            mixed[rule.box] = x[rule.box][rule.perm]
            return (mixed,)
        mixed = _gather_add(x, rule)
        if rule.mask is not None:
            mixed = backend.get_array_module(x).where(rule.mask, mixed, x)
        return (mixed,)

    def backward(self, indexes: tuple[int, ...], gradients: tuple[Variable]) -> tuple[Variable]:
        return _Blend(self.rule.transposed).apply(gradients)


def _apply(x: Variable | Array, rule: _Rule) -> Variable | Array:
    (mixed,) = _Blend(rule).apply((x,))
    return mixed if isinstance(x, Variable) else mixed.array


def _gather_add(x: Array, rule: _Rule) -> Array:
    """keep * x + give * x[perm], a fresh array of x's memory layout, rounded as the plain sum is."""
    keep, give = rule.keep, rule.give
    if isinstance(keep, float) and keep == 0.0:
        return x[rule.perm]
    if type(x) is np.ndarray and x[0].size >= _LARGE:
        return _row_by_row(x, rule)
    mixed, partner = x * keep, x[rule.perm]
    partner *= give
    mixed += partner
    return mixed


def _row_by_row(x: Array, rule: _Rule) -> Array:
    """The same sum, one sample at a time, which stays in the processor's cache."""
    mixed, buffer = np.empty_like(x), np.empty_like(x[0])
    keep, give = rule.keep, rule.give
    for row, partner in enumerate(rule.perm.tolist()):
        if not isinstance(rule.keep, float):
            keep, give = rule.keep[row], rule.give[row]
        np.multiply(x[row], keep, out=mixed[row])
        np.multiply(x[partner], give, out=buffer)
        mixed[row] += buffer
    return mixed
