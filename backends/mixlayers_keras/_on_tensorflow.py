"""Keras on TensorFlow: a plan is data of the traced step, like the batch, and one trace serves all places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import keras
import tensorflow as tf

from mixlayers import Method, MixedTarget, MixPlan
from mixlayers._core.audit.report import Audit
from mixlayers._core.framework.tree import tree_map
from mixlayers._core.model.planner import Planner
from mixlayers_keras._engine import Engine, Planned, Seen
from mixlayers_keras._tensorflow.array import Array, raw
from mixlayers_keras._tensorflow.audit import look
from mixlayers_keras._tensorflow.framework import TENSORFLOW
from mixlayers_keras._tensorflow.loss import binary_cross_entropy, cross_entropy
from mixlayers_keras._tensorflow.plan import Plan, planned
from mixlayers_keras._tensorflow.target import as_target, mixed_target


class OnTensorFlow(Engine):
    """TensorFlow."""

    framework = TENSORFLOW
    knows_shares = True
    cross_entropy = staticmethod(cross_entropy)
    binary_cross_entropy = staticmethod(binary_cross_entropy)

    def check_compiled(self, model: keras.Model) -> None:
        copies = model.distribute_strategy.num_replicas_in_sync
        if copies > 1:
            raise ValueError(
                f"tf.distribute splits the batch over {copies} devices, and a plan mixes all of it: train on one "
                "device, or mix the input in the loader, by MixCollate."
            )

    def look(
        self, model: keras.Model, x: Any, asked: str | Sequence[str], method: Method, state: Any = None
    ) -> Seen:
        found = look(model, x)
        return Seen(found.report, found.whole_input, found.shapes)

    def audit(self, model: keras.Model, x: Any) -> Audit:
        return look(model, x).report

    def plan(
        self, core: MixPlan, shapes: Mapping[str, tuple[int, ...]], channel_dim: int, planner: Planner
    ) -> Plan:
        return planned(core, planner.method, planner.places, shapes, channel_dim)

    def places(self, plan: Plan) -> Sequence[str]:
        return list(plan.parts)

    def partners(self, plan: Plan, place: str) -> Any:
        return plan.partners_at(place)

    def target(self, y: Any, plan: Plan) -> MixedTarget:
        return mixed_target(y, plan)

    def planning(self, function: Callable[..., Any], planned: Callable[..., Planned]) -> Callable[..., Any]:
        """Keras takes batches from a generator too, each a call of the traced step: so the plans ride with them."""

        def with_plans(batches: Iterator[Any]) -> Any:
            first = next(batches)  # at the end of the data it raises StopIteration, as Keras has it
            return function(planned(batch) for batch in chain([first], batches))

        return with_plans

    def recomputes_unseen(self) -> bool:
        return tf.executing_eagerly()

    def tensors(self, data: Any) -> Any:
        return keras.tree.map_structure(lambda x: x if x is None else tf.convert_to_tensor(x), data)

    def inside(self, data: Any) -> Any:
        return tree_map(Array, self.tensors(data))

    def outside(self, mixed: Any, target: MixedTarget) -> tuple[Any, MixedTarget]:
        return tree_map(raw, mixed), as_target(target)


ENGINE: Final = OnTensorFlow()
