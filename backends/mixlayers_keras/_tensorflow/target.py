"""The labels of a step on TensorFlow."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from mixlayers import MixedTarget
from mixlayers._core.batch.mix import check_length
from mixlayers._core.labels.labels import one_hot
from mixlayers_keras._tensorflow.array import Array, raw
from mixlayers_keras._tensorflow.framework import TENSORFLOW, like
from mixlayers_keras._tensorflow.plan import Plan


def _fit(s: Any, value: Any) -> Any:
    """A share in the dtype of what it multiplies, which TensorFlow wants to be equal."""
    return tf.cast(s, value.dtype) if tf.is_tensor(s) and hasattr(value, "dtype") else s


def _shaped(s: Any, shape: Any) -> Any:
    return like(s, tf.reshape(raw(s), [-1 if side is None else side for side in shape]))


def _one_hot(y: Any, num_classes: int, **options: Any) -> Any:
    return raw(one_hot(TENSORFLOW, Array(tf.convert_to_tensor(raw(y))), num_classes, **options))


class Target(MixedTarget):
    """A mixed target of TensorFlow's tensors."""

    _fit: ClassVar[Any] = staticmethod(_fit)
    _shaped: ClassVar[Any] = staticmethod(_shaped)

    def _share_map(self, values: Any, axes: int | None = None) -> Any:
        return _fit(super()._share_map(values, axes), values)


def mixed_target(y: Any, plan: Plan) -> MixedTarget:
    """The labels of a step, mixed as its plan mixes the features.

    Raises:
        ValueError: If the plan is for another batch size.
    """
    y = keras.tree.map_structure(lambda leaf: leaf if leaf is None else tf.convert_to_tensor(leaf), y)
    if not plan.mixes:
        return Target(y, one_hot=_one_hot)
    check_length(TENSORFLOW, y, plan.batch_size)
    partner = keras.tree.map_structure(lambda leaf: leaf if leaf is None else plan.partners.of(leaf), y)
    target = Target(y, partner, tf.convert_to_tensor(plan.s), plan, _one_hot)  # type: ignore[arg-type]
    if plan.features_shape is not None:
        target.record_features(TENSORFLOW, [(plan.s, plan.features_shape)], plan.channel_dim)
    return target


def as_target(target: MixedTarget) -> MixedTarget:
    """A target that the core made of eager tensors, as TensorFlow's."""
    made = Target(target.y, target._partner, target._s, target.plan, _one_hot)
    if target._features is not None:
        made.record_features(*target._features)
    return made
