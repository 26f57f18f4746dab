"""IEBN in plain NumPy, forward and backward: the oracle of every backend's layer.

Liang et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise", AAAI 2020.
Written to be read and to be right; nothing runs it but the tests. Shapes: x (N, C, ...), vectors (C,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class IEBNGradients:
    """The gradients of a scalar loss: `x` (N, C, ...), the others (C,)."""

    x: Array
    weight: Array
    bias: Array
    weight_readjust: Array
    bias_readjust: Array


def iebn(
    x: Array,
    weight: Array,
    bias: Array,
    weight_readjust: Array,
    bias_readjust: Array,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """`y = xhat * (weight * a) + bias`, with `a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)`.

    Args:
        x: (N, C, ...), raw features.
        weight, bias, weight_readjust, bias_readjust: (C,).
        mean, var: Statistics to normalise with, (C,); None: the batch's own, the variance biased.
        eps: Added to the variance.
    """
    xhat, _ = _normalised(x, mean, var, eps)
    a = _attention(x, weight_readjust, bias_readjust)
    return _spread(weight, x) * a * xhat + _spread(bias, x)


def iebn_backward(
    gradient: Array,
    x: Array,
    weight: Array,
    bias: Array,
    weight_readjust: Array,
    bias_readjust: Array,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> IEBNGradients:
    """The gradients with respect to x and all four parameters.

    Args:
        gradient: With respect to `iebn(x, ...)`, (N, C, ...).
        x, weight, bias, weight_readjust, bias_readjust, mean, var, eps: As given to `iebn`.
    """
    xhat, rstd = _normalised(x, mean, var, eps)
    a = _attention(x, weight_readjust, bias_readjust)
    space, batch = _axes(x)
    pixels = x[0, 0].size

    # through the attention: a depends on x by way of its mean over space
    on_a = _spread(weight, x) * (gradient * xhat).sum(axis=space, keepdims=True)
    on_z = on_a * a * (1.0 - a)
    on_x = _spread(weight_readjust, x) * on_z / pixels

    # through the normalisation
    on_xhat = gradient * _spread(weight, x) * a
    if mean is None:
        average = on_xhat.mean(axis=batch, keepdims=True)
        slope = (on_xhat * xhat).mean(axis=batch, keepdims=True)
        on_xhat = on_xhat - average - xhat * slope

    gap = x.mean(axis=space, keepdims=True)
    return IEBNGradients(
        x=rstd * on_xhat + on_x,
        weight=(gradient * xhat * a).sum(axis=batch),
        bias=gradient.sum(axis=batch),
        weight_readjust=(on_z * gap).sum(axis=batch),
        bias_readjust=on_z.sum(axis=batch),
    )


def running_statistics(
    x: Array, running_mean: Array, running_var: Array, momentum: float = 0.1, *, unbiased: bool = True
) -> tuple[Array, Array]:
    """The running mean and variance after a training step, `r = (1 - momentum) * r + momentum * new`, (C,) each.

    Args:
        x: (N, C, ...).
        running_mean, running_var: Before the step, (C,).
        momentum: Share of the new batch.
        unbiased: Whether the stored variance is n / (n - 1) times the batch's (PyTorch, Chainer), or not (Paddle).
    """
    _, batch = _axes(x)
    new_mean, new_var = x.mean(axis=batch), x.var(axis=batch, ddof=int(unbiased))
    mean: Array = (1.0 - momentum) * running_mean + momentum * new_mean
    var: Array = (1.0 - momentum) * running_var + momentum * new_var
    return mean, var


def _normalised(x: Array, mean: Array | None, var: Array | None, eps: float) -> tuple[Array, Array]:
    """BatchNorm of x without its affine part, and 1 / standard deviation, broadcastable to x."""
    _, batch = _axes(x)
    centre = x.mean(axis=batch) if mean is None else mean
    spread = x.var(axis=batch) if var is None else var
    rstd = 1.0 / np.sqrt(_spread(spread, x) + eps)
    return (x - _spread(centre, x)) * rstd, rstd


def _attention(x: Array, weight_readjust: Array, bias_readjust: Array) -> Array:
    """a, per instance and channel, (N, C, 1, ...)."""
    space, _ = _axes(x)
    z = _spread(weight_readjust, x) * x.mean(axis=space, keepdims=True) + _spread(bias_readjust, x)
    a: Array = np.exp(-np.logaddexp(0.0, -z))  # sigmoid, without overflow
    return a


def _axes(x: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of space, and of batch and space."""
    space = tuple(range(2, x.ndim))
    return space, (0, *space)


def _spread(vector: Array, x: Array) -> Array:
    """A (C,) vector, broadcastable to x."""
    return np.reshape(vector, (1, -1) + (1,) * (x.ndim - 2))
