"""The target of a step whose plan is data."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from mixlayers import MixedTarget
from mixlayers._core.batch.mix import check_length, partner_and_share
from mixlayers._core.framework.tree import tree_map
from mixlayers._core.labels.labels import one_hot
from mixlayers._core.plan.plan import MixPlan
from mixlayers_jax._framework import JAX
from mixlayers_jax._plan import Plan

ONE_HOT: Final = partial(one_hot, JAX)


class Use:
    """Whether a target was used; it outlives the target, which holds what JAX traces."""

    used = False


class PlannedTarget(MixedTarget):
    """A mixed target whose use is noted."""

    def __init__(self, use: Use, *args: Any) -> None:
        self._use = use
        super().__init__(*args)

    @property
    def used(self) -> bool:
        return self._use.used

    @used.setter
    def used(self, value: bool) -> None:
        self._use.used = value


def mixed_target(y: Any, plan: Plan | None, use: Use | None = None) -> MixedTarget:
    """The labels of a step: mixed as its plan mixes the features.

    Args:
        y: Labels (N,), soft labels (N, K), or a container of arrays with N rows.
        plan: The step's; None: nothing is mixed.
        use: Where its use is noted.

    Raises:
        ValueError: If the plan is for another batch size.
    """
    if plan is None or not plan.mixes:
        return MixedTarget(y, None, 0.0, plan, ONE_HOT)  # type: ignore[arg-type]
    check_length(JAX, y, plan.batch_size)
    if not isinstance(plan.perm, np.ndarray):  # labels that a compiled function holds, as their partners are
        y = tree_map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, y)
    partner, s = partner_and_share(JAX, y, plan.s, plan.partners)
    return _made(use or Use(), y, partner, s, plan)


def _made(use: Use, y: Any, partner: Any, s: Any, plan: Any) -> MixedTarget:
    target = PlannedTarget(use, y, partner, s, plan, ONE_HOT)
    shape = plan.features_shape if isinstance(plan, Plan) else None
    if shape is not None:
        target.record_features(JAX, [(plan.s, shape)], plan.channel_dim)
    return target


def _flatten(target: MixedTarget) -> tuple[tuple[Any, ...], None]:
    """What jit takes of a target: its plan as arrays, so that the next step's is no cause to compile again."""
    plan, features = target.plan, target._features
    if isinstance(plan, MixPlan):
        shape = features[1][0][1] if features and len(features[1]) == 1 else None
        plan = Plan.of(plan, shape, features[2] if features else -1)  # type: ignore[assignment]
    partner = target._partner
    target.used = True  # whoever has it now has to use it
    return (target._y, partner, target._s, plan), None


def _unflatten(_: None, children: tuple[Any, ...]) -> MixedTarget:
    y, partner, s, plan = children
    return _made(Use(), y, partner, s, plan)


for kind in (MixedTarget, PlannedTarget):
    jax.tree_util.register_pytree_node(kind, _flatten, _unflatten)
