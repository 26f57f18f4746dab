"""Mix an input batch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mixlayers import Method, MixedTarget
from mixlayers._core.batch.mix import mix_batch
from mixlayers_jax._framework import JAX


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
