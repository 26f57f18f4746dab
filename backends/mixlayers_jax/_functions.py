"""The core's functions, on JAX's arrays."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from mixlayers import MixedTarget
from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.documents import add_arguments
from mixlayers._core.labels.metrics import mixed_accuracy
from mixlayers._core.labels.outputs import classes_second
from mixlayers_jax._framework import IGNORED, JAX

_batch = BatchFunctions[Any, Array](JAX, IGNORED, channel_dim=-1)
mix, mix_detection, calibration_error = _batch.mix, _batch.mix_detection, _batch.calibration_error
temperature = _batch.temperature


def accuracy(
    output: Any,
    target: MixedTarget | Any,
    topk: int = 1,
    ignore_index: int = IGNORED,
    axis: int = -1,
) -> Array:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels. In jit or outside.

    Args:
        output: Scores, (N, K) or (N, ..., K); or one logit a sample, (N,) or (N, 1), which says 1 above 0.
        ignore_index: Labels of this number do not count.
        axis: Where the output has its classes: -1, or 1.
    """
    output, target = classes_second(JAX, jnp.asarray(output), target, axis)
    hits: Array = mixed_accuracy(JAX, output, target, topk, ignore_index)
    return hits


add_arguments(accuracy, BatchFunctions.accuracy)
