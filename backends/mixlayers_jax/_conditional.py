"""Plans brought to their places' shapes, and such that one compiled function serves wherever they mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from mixlayers import Method, MixPlan
from mixlayers._core.methods.method import MixingMethod
from mixlayers._core.model.planner import Planner
from mixlayers._core.plan.plan import Blend
from mixlayers_jax._acts import number
from mixlayers_jax._blend import Partners
from mixlayers_jax._plan import Plan


def check_alike(method: Method) -> None:
    """Raise unless a method's plans can be made alike for all places."""
    alone = isinstance(method, MixingMethod) and method.every_place
    if not alone and not all(leaf.labels_mix for leaf in method.leaves):
        raise ValueError(
            f"one_compilation=True is for methods that mix samples, or one that acts at every place, got {method!r}."
        )


def brought(core: MixPlan, planner: Planner, shapes: Mapping[str, tuple[int, ...]], channel_dim: int) -> Plan:
    """A plan brought to the shapes of where it acts.

    Args:
        core: What was drawn.
        planner: Who drew it.
        shapes: What each place mixes, by name, batch axis first, for a batch of any size.
        channel_dim: As of `MixPlan.blend`.
    """
    method = next(
        (leaf for leaf in planner.method.leaves if leaf.every_place and leaf.name == core.method), None
    )
    if method is not None:
        return _everywhere(core, method, planner.places, shapes, channel_dim)
    return Plan.of(core, feature_shape(core, shapes), channel_dim)


def feature_shape(plan: MixPlan, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of the feature that a plan is for, where it matters; shapes: as of `brought`."""
    if plan.place is None or plan.recipe is None:
        return None
    return (plan.batch_size, *shapes[plan.place][1:])


def _everywhere(
    core: MixPlan,
    method: MixingMethod,
    places: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    channel_dim: int,
) -> Plan:
    """A plan that acts at several places: which of them it does act at is data."""
    parts = []
    for place in places:
        own, shape = core.at(place), (core.batch_size, *shapes[place][1:])
        part = _idle(method, place, shape, channel_dim) if own is None else Plan.of(own, shape, channel_dim)
        parts.append(replace(part, acts=np.asarray(own is not None)))
    return Plan(
        Partners.drawn(core.perm),
        None,
        number(0.0),
        parts=tuple(parts),
        labels_stay=True,
        channel_dim=channel_dim,
    )


@lru_cache(maxsize=64)
def _idle(method: MixingMethod, place: str, shape: tuple[int, ...], channel_dim: int) -> Plan:
    """Where a method does nothing in a step: arrays of the form that a compiled function asks for, and does not use."""
    acting = replace(method, prob=1.0, pairs="random")
    return Plan.of(acting.plan(step=0, batch_size=shape[0], places=[place]), shape, channel_dim)


def at_any(plan: Plan, method: Method, places: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> Plan:
    """A plan for one place in the form that all places share.

    Args:
        plan: The step's.
        method: The mixer's.
        places: All that it may mix at.
        shapes: Of their features, batch axis first.

    Raises:
        ValueError: If the plan does something else than blend or paste.
    """
    act, leaves, size = plan.act, method.leaves, plan.batch_size
    if act is None:
        act = Blend(None, number(1.0), None, None, number(0.0))  # type: ignore[arg-type]
    if not isinstance(act, Blend):
        raise ValueError(
            f"one_compilation=True is for methods that blend or paste, got {method!r}: what it does has another form "
            "at each place. Leave it out."
        )
    per_sample, masks = any(leaf.lam_per != "batch" for leaf in leaves), None
    if any(leaf.partial for leaf in leaves):
        rows = size if per_sample else 1
        masks = {place: np.ones((rows, *shapes[place][1:]), np.bool_) for place in places}
        if plan.place is not None and act.mask is not None:
            masks[plan.place] &= act.mask
    lam, s = (np.broadcast_to(x, (size,)) if per_sample else x for x in (act.lam, plan.s))
    return replace(
        plan,
        act=Blend(None, lam, None, None, s),  # type: ignore[arg-type]
        s=s,
        masks=masks,
        at=np.int32(-1 if plan.place is None else places.index(plan.place)),
        place=None,
        places=tuple(places),
        zeros=(),
        masked=masks is not None,
    )
