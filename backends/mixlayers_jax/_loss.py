"""Losses of mixed targets."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from mixlayers import MixedTarget
from mixlayers._core.labels.binary import binary_points
from mixlayers._core.labels.outputs import check_soft, class_labels, classes_second
from mixlayers._core.labels.reduce import blended, check_reduction, check_smoothing, counted, scale_of
from mixlayers_jax._framework import IGNORED, JAX

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(
    output: Any,
    target: MixedTarget | Any,
    label_smoothing: float = 0.0,
    weight: Any = None,
    ignore_index: int = IGNORED,
    reduction: Reduction = "mean",
    axis: int = -1,
) -> Array:
    """Softmax cross-entropy of logits, for mixed or plain targets; summed in float32. Inside jit or outside.

    Of plain labels it is optax's, of mixed ones the blend of theirs by each sample's (or, under a mask, each point's)
    share, times `target.loss_scale`, with one log-softmax for both labels.

    Args:
        output: Logits, (N, K) or (N, ..., K).
        target: A mixed target, class indices (N, ...), or probabilities with the classes where the output has them.
        label_smoothing: Epsilon in [0, 1].
        weight: Of each class, (K,).
        ignore_index: Labels of this number do not count.
        reduction: "mean" over what counts, by its weights; "sum"; or "none", one value for each label.
        axis: Where the output has its classes: -1, or 1.

    Returns:
        An array of the output's dtype.

    Raises:
        ValueError: If the labels fit no such output, or hold a class that there is not (outside of jit).
    """
    check_reduction(reduction)
    check_smoothing(label_smoothing)
    output = jnp.asarray(output)
    kind = output.dtype
    output, target = classes_second(JAX, output, target, axis)
    logs = jax.nn.log_softmax(_whole(output), 1)
    shape, classes = logs.shape, logs.shape[1]
    weight = None if weight is None else jnp.asarray(weight, logs.dtype)
    weighted = logs if weight is None else logs * weight.reshape(1, classes, *(1,) * (logs.ndim - 2))

    def each(y: Any) -> Array:
        if JAX.is_float(y):
            check_soft(y, shape)
            soft = jnp.asarray(y).astype(logs.dtype) * (1.0 - label_smoothing) + label_smoothing / classes
            return -(soft * weighted).sum(1)
        y = class_labels(JAX, y, shape, ignore_index)
        valid = y != ignore_index
        own = jnp.take_along_axis(weighted, JAX.zeroed(y, valid)[:, None], 1)[:, 0]
        return -((1.0 - label_smoothing) * own + label_smoothing / classes * weighted.sum(1)) * valid

    def count(y: Any) -> Array:
        if JAX.is_float(y):
            return jnp.ones_like(logs[:, 0])
        y = class_labels(JAX, y, shape, ignore_index)
        valid = y != ignore_index
        counts = valid.astype(logs.dtype)
        return counts if weight is None else weight[JAX.zeroed(y, valid)] * counts

    loss = blended(JAX, target, each, logs.ndim - 2)
    if reduction == "mean":
        loss = loss.sum() / counted(JAX, target, count, logs.ndim - 2).sum()
    elif reduction == "sum":
        loss = loss.sum()
    result: Array = (loss * scale_of(target)).astype(kind)
    return result


def binary_cross_entropy(
    output: Any,
    target: MixedTarget | Any,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
    ignore_index: int = IGNORED,
    reduction: Reduction = "mean",
    axis: int = -1,
) -> Array:
    """Binary cross-entropy of logits, by default the mean over samples and classes, for mixed or plain targets.

    For several labels a sample, and for one as in "ResNet strikes back" (arXiv:2110.00476): class indices become
    one-hot rows. With one logit a sample, (N,) or (N, 1), labels are 0 or 1.

    Args:
        output: Logits, (N,), (N, K) or (N, ..., K).
        target: A mixed target, class indices (N, ...), or labels of the output's shape: whole numbers 0 and 1, bool,
            or floating-point ones in [0, 1].
        label_smoothing: Epsilon in [0, 1), spread evenly over the K classes: for one class a sample.
        target_threshold: A mixed label above it counts as 1, any other as 0 (timm's recipe has 0.2); None: the
            labels' shares.
        ignore_index: Whole-number labels of this number do not count.
        reduction: "mean" over what counts, "sum", or "none", one value for each logit.
        axis: Where the output has its classes: -1, or 1.

    Raises:
        ValueError: If target_threshold is not in [0, 1); if the labels fit no such output, or hold a number that
            there is not (outside of jit).
    """
    check_reduction(reduction)
    output = jnp.asarray(output)
    kind = output.dtype
    output, target = classes_second(JAX, output, target, axis)
    labels, share, scale = binary_points(
        JAX, target, output.shape, label_smoothing, target_threshold, ignore_index
    )
    own = _whole(output)
    loss = (jax.nn.softplus(own) - labels.astype(own.dtype) * own) * share.astype(own.dtype)
    if reduction == "mean":
        loss = loss.sum() / share.sum()
    elif reduction == "sum":
        loss = loss.sum()
    elif loss.ndim > 2:
        loss = jnp.moveaxis(loss, 1, axis)
    return (loss * scale).astype(kind)


def _whole(output: Array) -> Array:
    """What is summed up: half precision is too little for it."""
    return output.astype(jnp.promote_types(output.dtype, jnp.float32))
