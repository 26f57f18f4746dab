"""Keras on JAX: a plan is data of the jitted step, like the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import keras

from mixlayers import Method, MixedTarget, MixPlan
from mixlayers._core.audit.report import Audit
from mixlayers._core.model.planner import Planner
from mixlayers_jax._audit import Looked, Marks, audit_call
from mixlayers_jax._conditional import brought
from mixlayers_jax._framework import JAX
from mixlayers_jax._loss import binary_cross_entropy, cross_entropy
from mixlayers_jax._plan import Plan
from mixlayers_jax._target import mixed_target
from mixlayers_keras._engine import Engine, Planned, Seen
from mixlayers_keras._layers import acting, build, described, layers_of, training
from mixlayers_keras._masks import handed_on


class OnJax(Engine):
    """JAX."""

    framework = JAX
    knows_shares = True
    cross_entropy = partial(cross_entropy, axis=1)
    binary_cross_entropy = partial(binary_cross_entropy, axis=1)

    def look(
        self, model: keras.Model, x: Any, asked: str | Sequence[str], method: Method, state: Any = None
    ) -> Seen:
        found = _found(model, x, state)
        return Seen(found.report, found.whole_input, found.shapes)

    def audit(self, model: keras.Model, x: Any) -> Audit:
        return _found(model, x, None).report

    def plan(
        self, core: MixPlan, shapes: Mapping[str, tuple[int, ...]], channel_dim: int, planner: Planner
    ) -> Plan:
        return brought(core, planner, shapes, channel_dim)

    def places(self, plan: Plan) -> Sequence[str]:
        return plan.reached

    def partners(self, plan: Plan, place: str) -> Any:
        return plan.partners

    def target(self, y: Any, plan: Plan) -> MixedTarget:
        return mixed_target(y, plan)

    def planning(self, function: Callable[..., Any], planned: Callable[..., Planned]) -> Callable[..., Any]:
        def with_plans(state: Any, iterator: Any) -> Any:
            return function(state, map(partial(planned, state=state), iterator))

        return with_plans


def _found(model: keras.Model, x: Any, state: Any) -> Looked:
    if state is None:
        build(model, x)
    layers = layers_of(model)
    held: list[tuple[Any, Any]] = []
    if state is not None:  # in fit the trainer holds the values, and the variables none
        for variables, values in zip(
            (model.trainable_variables, model.non_trainable_variables), state, strict=False
        ):
            held += zip(variables, values, strict=True)
    marks, masks = Marks(), handed_on([model, *layers.values()])

    def run(x: Any) -> Any:
        marked = {layer: partial(marks.mixed, name) for name, layer in layers.items()}
        with keras.StatelessScope(state_mapping=held), acting(marked, masks):
            return model(x, **training(model))

    return audit_call(run, (x,), {}, lambda _: {name: described(layer) for name, layer in layers.items()})


ENGINE: Final = OnJax()
