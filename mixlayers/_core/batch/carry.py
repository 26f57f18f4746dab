"""Carry out on a tensor what a plan became at its shape, whatever it is."""

from __future__ import annotations

from math import prod
from typing import Any

from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.blends import Weigh
from mixlayers._core.plan.plan import Act
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.resized import Paste


def carry_out(framework: Framework, x: Any, how: Act, partners: Any) -> Any:
    """The mixed feature, out of place.

    Args:
        framework: Whose tensor x is.
        x: Feature, batch axis first, floating point.
        how: The plan, brought to x's shape.
        partners: The plan's permutation, as the framework has it.
    """
    if isinstance(how, Replace):
        return framework.replace(x, how)
    if isinstance(how, Weigh):
        return _weigh(framework, x, how, partners)
    if isinstance(how, Paste):
        return _paste(framework, x, how, partners)
    return framework.blend(x, how, partners)


def _weigh(framework: Framework, x: Any, how: Weigh, partners: Any) -> Any:
    """`keep * x + (1 - keep) * x[perm]`; half precision is weighed in single."""
    precise = framework.precise(x)
    keep = framework.like(framework.share(how.keep, x), precise)
    return framework.like(precise * keep + partners.of(precise) * (1.0 - keep), x)


def _paste(framework: Framework, x: Any, how: Paste, partners: Any) -> Any:
    """Points of the partner under the mask."""
    feature = framework.move_axis(x, -1, 1) if how.channel_dim == -1 else x
    flat = feature.reshape((*feature.shape[:2], prod(feature.shape[2:])))
    moved = framework.points(partners.of(flat), how.source).reshape(tuple(feature.shape))
    moved = framework.move_axis(moved, 1, -1) if how.channel_dim == -1 else moved
    return framework.where(how.mask, moved, x)
