"""The core's functions, on JAX's arrays."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
from jax import Array

from mixlayers import Method, MixedTarget
from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.labels.metrics import mixed_accuracy
from mixlayers._core.labels.outputs import classes_second
from mixlayers_jax._framework import IGNORED, JAX

_batch = BatchFunctions[Any, Array](JAX, IGNORED)
mix_detection, calibration_error = _batch.mix_detection, _batch.calibration_error
temperature = _batch.temperature


def mix(
    x: Any,
    target: Any,
    method: Method,
    *,
    step: int | None = None,
    seed: int = 0,
    rank: int = 0,
    batch_dim: int = 0,
    channel_dim: int = -1,
    keep: Collection[str] = (),
) -> tuple[Any, MixedTarget]:
    """Mix an input batch and its target, outside of jit; no model needed. The target may then be passed to jit.

    Args:
        x: Floating-point array (N, ...), JAX's or NumPy's, or a tuple, list, dict or dataclass holding some.
        target: Labels (N,), soft labels (N, K), or a container of arrays with N rows.
        method: For example CutMix(). A method for hidden layers does what it does at the input.
        step: The step's number, for exact replay and resume. None: this process's next one, from 0.
        seed: The run's seed.
        rank: The process's number; equal ranks draw equal plans.
        batch_dim: Axis of x that holds the batch.
        channel_dim: -1 or 1, where a masked feature's channels are, the batch axis being first.
        keep: Names of entries of x that are no features and stay as they are, such as an image's scale.

    Returns:
        The mixed x, a new array of its dtype; and the mixed target, a pytree.

    Raises:
        MixingError: If JAX is tracing: the compiled function would mix by this one plan for ever.
        ValueError: If x holds no floating-point array, or the target has another length.
    """
    return mix_batch(
        JAX,
        x,
        target,
        method,
        step=step,
        seed=seed,
        rank=rank,
        batch_dim=batch_dim,
        channel_dim=channel_dim,
        keep=keep,
    )


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
        target: A mixed target: class indices (N, ...), or (N, 1); probabilities of the output's shape, which count as
            their largest class; or 0 and 1 for each logit, whole numbers or bool of the output's shape, each a
            prediction of its own.
        topk: A label among so many of the highest scores counts, 1 <= topk <= K.
        ignore_index: Labels of this number do not count.
        axis: Where the output has its classes: -1, or 1.

    Raises:
        ValueError: If topk is out of its range; if the labels fit no such output, or hold a class that there is not.
    """
    output, target = classes_second(JAX, jnp.asarray(output), target, axis)
    hits: Array = mixed_accuracy(JAX, output, target, topk, ignore_index)
    return hits
