"""A mixed batch: originals, partners, and what the plan makes of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mixlayers import MixedTarget, MixPlan
from mixlayers._core.batch.carry import carry_out
from mixlayers._core.framework.numpy_arrays import NUMPY
from mixlayers._core.plan.replacements import Replace
from mixlayers_matplotlib._mixers import last_plan, mixer_of
from mixlayers_matplotlib._values import Array, as_features, as_numpy, limits, show_sample, title_of


def batch(
    x: Any,
    target: MixedTarget | MixPlan | Any,
    *,
    labels: Any = None,
    names: Sequence[str] | None = None,
    samples: int = 8,
    channel_dim: int = 1,
) -> Figure:
    """Draw the first samples of a batch, their partners, and both mixed by the step's plan.

    Args:
        x: What was mixed, as it was before: the images for a plan at "input", else what came out of its layer.
            (N, C, H, W), (N, C, L) or (N, F), of any framework; left as it is. Three channels are shown in
            colour, others as their mean. Images below 0 or above 255 are stretched to what they span.
        target: The step's target, or its plan; or the mixer, or the wrapped model, for the plan of its last forward.
            Reading a target does not count as using it.
        labels: The original labels, (N,) or (N, K): probabilities, whose largest is named, or several labels a sample,
            0 and 1. Those of the target, if it has such.
        names: Name of each class.
        samples: How many to show at most.
        channel_dim: 1 or -1, as the mixer has it.

    Raises:
        ValueError: If x is not the batch that was mixed, or cannot be drawn.
    """
    known = MixedTarget | MixPlan | None  # None: a clean step's plan
    mixer = None if isinstance(target, known) else mixer_of(target)
    if mixer is not None:
        target = last_plan(mixer)
    if not isinstance(target, known):
        raise TypeError(
            f"view.batch draws what a step did, got {type(target).__name__}: give the step's target, its plan, the "
            "mixer or the wrapped model."
        )
    plan = target.plan if isinstance(target, MixedTarget) else target
    values = as_features(x, channel_dim)
    if plan is not None and len(values) != plan.batch_size:
        raise ValueError(
            f"the plan is for a batch of {plan.batch_size}, got x of shape {tuple(np.shape(values))}: "
            "pass the whole batch that the step mixed; samples= says how many to show."
        )
    shown = min(samples, len(values))
    if shown < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    own, partners, mixed, perm, s = _mixed(values, plan, shown)
    if labels is None and isinstance(target, MixedTarget) and not isinstance(target.y, dict | tuple | list):
        labels = target.y
    told = _captions(labels, names, len(values))

    figure = Figure(figsize=(0.7 + 1.45 * shown, 5.6), layout="constrained")
    figure.suptitle(_title(plan), x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(3, shown, squeeze=False)
    low, high = limits(np.concatenate((own, partners)))
    for row, title, pictures in zip(
        grid, ("original", "partner", "mixed"), (own, partners, mixed), strict=True
    ):
        for axes, picture in zip(row, pictures, strict=True):
            show_sample(axes, picture, low, high)
        row[0].set_ylabel(title, fontsize=11)
    for at in range(shown):
        first, second = told[at], told[int(perm[at])]
        grid[0][at].set_xlabel(first, fontsize=9)
        grid[1][at].set_xlabel(second, fontsize=9)
        shares = (
            f"{1 - s[at]:.0%} {first} + {s[at]:.0%} {second}" if first else f"{1 - s[at]:.0%} + {s[at]:.0%}"
        )
        grid[2][at].set_xlabel(f"{shares}\nlam {1 - s[at]:.2f}", fontsize=9)
    return figure


def _mixed(values: Array, plan: MixPlan | None, shown: int) -> tuple[Array, ...]:
    """The shown samples, their partners and both mixed; and perm and the share s, each (shown,)."""
    own = values[:shown]
    if plan is None or plan.place is None:
        return own, own, own, np.arange(shown), np.zeros(shown)
    how = plan.blend(values.shape)
    mixed = carry_out(NUMPY, values, how, NUMPY.partners(plan.perm))[:shown]
    if isinstance(how, Replace):
        return (
            own,
            np.broadcast_to(how.fill, values.shape)[:shown],
            mixed,
            np.arange(shown),
            np.zeros(shown),
        )
    share = np.broadcast_to(plan.label_share([(how.s, values.shape)]), (len(values),))
    return own, values[plan.perm[:shown]], mixed, plan.perm[:shown], share[:shown]


def _captions(labels: Any, names: Sequence[str] | None, size: int) -> list[str]:
    """One text per sample; empty where the labels are of no such kind."""
    if labels is None:
        return [""] * size
    values = as_numpy(labels)
    if len(values) != size:
        raise ValueError(f"labels must be one per sample: x has {size}, labels have shape {values.shape}.")
    if values.ndim == 2 and values.shape[1] > 1:
        if values.dtype.kind in "iub":  # several a sample, or none
            return [", ".join(_named(at, names) for at in np.flatnonzero(row)) or "none" for row in values]
        values = values.argmax(axis=1)
    if values.size != size:
        return [""] * size
    values = values.reshape(size)
    if values.dtype.kind in "iub" and names is not None:
        return [_named(value, names) for value in values]
    return [f"{value:.3g}" if values.dtype.kind == "f" else str(value) for value in values.tolist()]


def _named(value: Any, names: Sequence[str] | None) -> str:
    """A class's name; of labels that do not count, such as -1, the number."""
    number = int(value)
    if names is None or number < 0:
        return str(number)
    if number >= len(names):
        raise ValueError(f"names has one for each class, got {len(names)} and a label of {number}.")
    return names[number]


def _title(plan: MixPlan | None) -> str:
    if plan is None or plan.place is None:
        return "Nothing was mixed in this step"
    return f"Step {plan.step} mixed {plan.place}: {title_of(plan.method)}"
