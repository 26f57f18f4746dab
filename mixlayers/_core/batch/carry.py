"""Carry out on a tensor what a plan became at its shape, whatever it is."""

from __future__ import annotations

from math import prod
from typing import Any

from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.alignments import Align
from mixlayers._core.plan.blends import Weigh
from mixlayers._core.plan.noise import Jitter
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
    if isinstance(how, Jitter):
        return _jitter(framework, framework.blend(x, how.blend, partners), how)
    if isinstance(how, Align):
        with framework.without_autocast(x):
            return _align(framework, x, how, partners)
    if isinstance(how, Paste):
        return _paste(framework, x, how, partners)
    return framework.blend(x, how, partners)


def _weigh(framework: Framework, x: Any, how: Weigh, partners: Any) -> Any:
    """`keep * x + (1 - keep) * x[perm]`; half precision is weighed in single."""
    precise = framework.precise(x)
    keep = framework.like(framework.share(how.keep, x), precise)
    return framework.like(precise * keep + partners.of(precise) * (1.0 - keep), x)


def _jitter(framework: Framework, x: Any, how: Jitter) -> Any:
    """Noise multiplied, and added."""
    noisy = x
    if not _is_zero(how.multiply):
        noise = framework.noise(x, "uniform", how.seed)
        noisy = noisy * (noise * _number(framework, how.multiply, noise) + 1.0)
    if not _is_zero(how.add):
        noise = framework.noise(x, "normal", how.seed + 1)
        noisy = noisy + noise * _number(framework, how.add, noise)
    return framework.like(noisy, x)  # which bytes are not any more


def _align(framework: Framework, x: Any, how: Align, partners: Any) -> Any:
    """Own and partner blended, one of them moved to the other's cells."""
    feature = (
        framework.move_axis(framework.precise(x), -1, 1) if how.channel_dim == -1 else framework.precise(x)
    )
    own = feature.reshape((*feature.shape[:2], prod(feature.shape[2:])))
    theirs = partners.of(own)
    scores = _transport(framework, framework.detached(own), framework.detached(theirs), how)

    def move_own() -> tuple[Any, Any]:
        return own @ framework.exp(scores - framework.log_sum_exp(scores, 1)), theirs

    def move_partner() -> tuple[Any, Any]:
        weights = framework.exp(scores - framework.log_sum_exp(scores, 2))
        return own, theirs @ framework.move_axis(weights, 1, 2)

    own_cells, their_cells = framework.either(how.moves_own, move_own, move_partner)
    keep = _number(framework, how.lam, own)
    mixed = (own_cells * keep + their_cells * (1.0 - keep)).reshape(tuple(feature.shape))
    return framework.like(framework.move_axis(mixed, 1, -1) if how.channel_dim == -1 else mixed, x)


def _transport(framework: Framework, own: Any, theirs: Any, how: Align) -> Any:
    """Logarithms of how much of each partner's cell goes with each own cell, (N, own cells, partner's cells).

    Sinkhorn's rounds; marginals of 1 / cells would only shift both. The last one fixes columns alone, so whatever is
    moved is normalised once more.
    """
    squares = (
        (own**2).sum(1).reshape((own.shape[0], -1, 1)),
        (theirs**2).sum(1).reshape((own.shape[0], 1, -1)),
    )
    log_kernel = (framework.move_axis(own, 1, 2) @ theirs * 2.0 - squares[0] - squares[1]) * (1.0 / how.eps)

    def one_round(before: tuple[Any, Any]) -> tuple[Any, Any]:
        rows = -framework.log_sum_exp(log_kernel + before[1], 2)
        return rows, -framework.log_sum_exp(log_kernel + rows, 1)

    rows, columns = framework.repeated(one_round, (0.0, 0.0), how.rounds)
    return log_kernel + rows + columns


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
    if _is_zero(how.keep):
        return theirs
    keep = _number(framework, how.keep, own)
    return own * keep + theirs * (1.0 - keep)


def _is_zero(value: Any) -> bool:
    """Whether a number is 0, whatever a compiled function is given."""
    return isinstance(value, float | int) and value == 0.0


def _number(framework: Framework, value: Any, like: Any) -> Any:
    """A number, or one for each sample, that multiplies a tensor: a float, or an array of its dtype and axes."""
    if isinstance(value, float):
        return value
    value = value.reshape(-1, *(1,) * (len(like.shape) - 1))
    return framework.like(framework.share(value, like), like)
