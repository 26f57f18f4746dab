"""Losses of mixed targets, with the classes as the second axis."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from mixlayers._core.labels.binary import binary_points
from mixlayers._core.labels.outputs import check_soft, class_labels
from mixlayers._core.labels.reduce import blended, check_reduction, check_smoothing, counted, scale_of
from mixlayers_keras._tensorflow.array import raw
from mixlayers_keras._tensorflow.framework import TENSORFLOW, precise


def cross_entropy(
    output: Any, target: Any, label_smoothing: float, weight: Any, ignore_index: int, reduction: str
) -> Any:
    """As `mixlayers.keras.cross_entropy`."""
    check_reduction(reduction)
    check_smoothing(label_smoothing)
    output = tf.convert_to_tensor(raw(output))
    kind = precise(output.dtype)
    logs = tf.nn.log_softmax(tf.cast(output, kind), 1)
    shape, classes, points = tuple(logs.shape), logs.shape[1], len(logs.shape) - 2
    weight = None if weight is None else tf.cast(weight, kind)
    weighted = logs if weight is None else logs * tf.reshape(weight, (1, classes, *(1,) * points))

    def labels_of(y: Any) -> tuple[Any, Any]:
        """Class indices, and which count."""
        y = class_labels(TENSORFLOW, TENSORFLOW.label(y), shape, ignore_index).x
        return tf.where(y == ignore_index, tf.zeros_like(y), y), tf.cast(y != ignore_index, kind)

    def each(y: Any) -> Any:
        if TENSORFLOW.is_float(y):
            check_soft(y, shape)
            soft = tf.cast(raw(y), kind) * (1.0 - label_smoothing) + label_smoothing / classes
            return -tf.reduce_sum(soft * weighted, 1)
        y, valid = labels_of(y)
        own = keras.ops.squeeze(keras.ops.take_along_axis(weighted, tf.expand_dims(y, 1), 1), 1)
        evenly = label_smoothing / classes * tf.reduce_sum(weighted, 1)
        return -((1.0 - label_smoothing) * own + evenly) * valid

    def count(y: Any) -> Any:
        if TENSORFLOW.is_float(y):
            return tf.ones_like(logs[:, 0])
        y, valid = labels_of(y)
        return valid if weight is None else tf.gather(weight, y) * valid

    loss = blended(TENSORFLOW, target, each, points)
    if reduction == "mean":
        loss = tf.reduce_sum(loss) / tf.reduce_sum(counted(TENSORFLOW, target, count, points))
    elif reduction == "sum":
        loss = tf.reduce_sum(loss)
    return tf.cast(loss * scale_of(target), output.dtype)


def binary_cross_entropy(
    output: Any,
    target: Any,
    label_smoothing: float,
    target_threshold: float | None,
    ignore_index: int,
    reduction: str,
) -> Any:
    """As `mixlayers.keras.binary_cross_entropy`."""
    check_reduction(reduction)
    output = tf.convert_to_tensor(raw(output))
    kind = precise(output.dtype)
    labels, share, scale = binary_points(
        TENSORFLOW, target, tuple(output.shape), label_smoothing, target_threshold, ignore_index
    )
    labels, share = (tf.cast(raw(each), kind) for each in (labels, share))
    own = tf.cast(output, kind)
    loss = (tf.nn.softplus(own) - labels * own) * share
    if reduction == "mean":
        loss = tf.reduce_sum(loss) / tf.reduce_sum(share)
    elif reduction == "sum":
        loss = tf.reduce_sum(loss)
    return tf.cast(loss * scale, output.dtype)
