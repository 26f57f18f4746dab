"""Carry out on a tensor what a plan became at its shape, whatever it is."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.blends import Weigh
from mixlayers._core.plan.plan import Act
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.resized import Paste
from mixlayers._core.plan.styles import Restyle


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
    if isinstance(how, Restyle):
        return _restyle(framework, x, how, partners)
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


def _restyle(framework: Framework, x: Any, how: Restyle, partners: Any) -> Any:
    """Other statistics, measured in single precision at least: `x * scale + shift`, both of the statistics' size."""
    precise = framework.precise(x)
    feature = precise if how.shape is None else precise.reshape(how.shape)
    measured = framework.detached(feature) if how.detached == "both" else feature
    mean, variance = framework.moments(measured, how.axes)
    sd = (variance + how.eps) ** 0.5
    new_mean, new_sd = (
        _new_statistic(framework, own, how, part, partners) for part, own in enumerate((mean, sd))
    )
    scale = new_sd / sd
    restyled = feature * scale + (new_mean - mean * scale)
    return framework.like(restyled if how.shape is None else restyled.reshape(tuple(x.shape)), x)


def _new_statistic(framework: Framework, own: Any, how: Restyle, part: int, partners: Any) -> Any:
    """What the mean (part 0) or the deviation (part 1) of each sample becomes."""
    if how.noise is not None:
        _, variance = framework.moments(own, (0,))
        return own + framework.like(framework.share(how.noise[part], own), own) * (variance + how.eps) ** 0.5
    theirs = partners.of(own)
    if how.detached == "partner":
        theirs = framework.detached(theirs)
    if not isinstance(how.keep, np.ndarray):
        return theirs if how.keep == 0.0 else own * how.keep + theirs * (1.0 - how.keep)
    keep = how.keep.reshape(-1, *(1,) * (len(own.shape) - 1))
    keep = framework.like(framework.share(keep, own), own)
    return own * keep + theirs * (1.0 - keep)
