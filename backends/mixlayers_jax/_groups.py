"""Plans whose samples mix within groups of neighbours, such as the parts of a batch that devices hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mixlayers import CutMix, FMix, Halves, MixPlan, Mixup, NoisyFeatureMixup, PatchUp, SpecMix
from mixlayers._core.model.planner import Planner
from mixlayers_jax._plan import Plan

_GROUPED = (Mixup, CutMix, PatchUp, FMix, SpecMix)
"""What each group draws of these is the same in all of them, or one for each sample."""


def grouped(
    planner: Planner,
    size: int,
    labels: Any,
    lengths: Any,
    groups: int,
    shape_of: Callable[[MixPlan], tuple[int, ...] | None],
    channel_dim: int,
) -> tuple[MixPlan, Plan]:
    """The next plan for a batch in groups: one place, one lam and mask where they are the batch's, partners for each.

    Args:
        planner: Draws it.
        size: N, a multiple of groups.
        labels, lengths: The batch's, for pairs by class, label or length.
        groups: How many.
        shape_of: The shape of a plan's feature.
        channel_dim: As of `MixPlan.blend`.

    Returns:
        The first group's plan, as the core has it; and the whole one.
    """
    for method in planner.method.leaves:
        if not isinstance(method, _GROUPED) or isinstance(method.pairs, Halves):
            raise ValueError(
                f"plans in groups are for methods that draw one lam and mask for all, or one for each sample, got "
                f"{method!r}: plan the whole batch, groups=1."
            )
        if isinstance(method, NoisyFeatureMixup):
            raise ValueError(
                "plans in groups would have the same noise on each device: give each device a plan of its own, of its "
                "own rank, or plan the whole batch, groups=1."
            )
    if size % groups:
        raise ValueError(f"a batch in {groups} groups must be a multiple of {groups}, got {size} samples.")
    own = size // groups

    def part(values: Any, at: int) -> Any:
        return None if values is None else values[at * own : (at + 1) * own]

    first = planner.draw(own, part(labels, 0), part(lengths, 0))
    whole = Plan.of(first, shape_of(first), channel_dim)
    leaf = next((each for each in planner.method.leaves if each.name == first.method), None)
    plans = [whole]
    for at in range(1, groups):
        if leaf is None or first.place is None:
            drawn = first
        else:
            classes, near = planner.host_labels(part(labels, at), part(lengths, at))
            drawn = replace(leaf, prob=1.0).plan(
                step=first.step,
                batch_size=own,
                places=[first.place],
                seed=first.seed,
                rank=2**32 * at + first.rank,
                labels=classes,
                near=near,
            )
        plans.append(Plan.of(drawn, shape_of(drawn), channel_dim))

    def joined(*values: Any) -> Any:
        """One for the batch, or one for each sample."""
        each = np.ndim(values[0]) and len(values[0]) == own and own > 1
        return np.concatenate(values) if each else values[0]

    partners = jax.tree.map(lambda *each: np.stack(each), *(plan.partners for plan in plans))
    act, s = jax.tree.map(joined, *((plan.act, plan.s) for plan in plans))
    return first, replace(whole, partners=partners, act=act, s=s)
