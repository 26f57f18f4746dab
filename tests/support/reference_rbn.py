"""RBN in plain NumPy, from the formula: the oracle of every backend's layer.

Gao et al., "Representative Batch Normalization with Feature Calibration", CVPR 2021. Every step is made on the whole
feature, as the paper writes it, and is analytic, so that a step along i gives exact derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NAMES = ("weight", "bias", "weight_readjust", "bias_readjust", "weight_recenter")
"""The parameters, (C,) each, in the order that `rbn` takes them."""


def recentred(x: Array, weight_recenter: Array) -> Array:
    """x, moved by a share of each instance's own mean: what is normalised."""
    space = tuple(range(2, x.ndim))
    return x + _spread(weight_recenter, x) * x.mean(axis=space, keepdims=True)


def rbn(
    x: Array,
    weight: Array,
    bias: Array,
    weight_readjust: Array,
    bias_readjust: Array,
    weight_recenter: Array,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """`xhat * (weight * a) + bias`, with `a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)`.

    Args:
        x: (N, C, ...), raw features.
        weight, bias, weight_readjust, bias_readjust, weight_recenter: (C,).
        mean, var: Statistics to normalise with, (C,); None: those of the recentred batch, the variance biased.
        eps: Added to the variance.
    """
    space = tuple(range(2, x.ndim))
    moved = recentred(x, weight_recenter)
    centre = moved.mean(axis=(0, *space), keepdims=True) if mean is None else _spread(mean, x)
    spread = ((moved - centre) ** 2).mean(axis=(0, *space), keepdims=True) if var is None else _spread(var, x)
    xhat = (moved - centre) / np.sqrt(spread + eps)
    z = _spread(weight_readjust, x) * xhat.mean(axis=space, keepdims=True) + _spread(bias_readjust, x)
    y: Array = _spread(weight, x) * xhat / (1.0 + np.exp(-z)) + _spread(bias, x)
    return y


def slopes(f: Callable[..., Array], upstream: Array, x: Array, parameters: list[Array]) -> list[Array]:
    """The gradients of `(upstream * f(x, *parameters)).sum()`, of x and each parameter, by steps along i.

    Channels know nothing of each other, so each step is made in all of them at once.
    """
    on_x = np.empty_like(x)
    for at in np.ndindex(x.shape[:1] + x.shape[2:]):
        place = (at[0], slice(None), *at[1:])
        step = np.zeros_like(x)
        step[place] = 1.0
        on_x[place] = along(f, upstream, x, parameters, step)
    found = [on_x]
    for i, vector in enumerate(parameters):
        moved = [each + 1e-30j if j == i else each for j, each in enumerate(parameters)]
        found.append(_of_channels(upstream, f(x, *moved)).reshape(vector.shape))
    return found


def along(f: Callable[..., Array], upstream: Array, x: Array, parameters: list[Array], step: Array) -> Array:
    """The derivative of each channel's share of the loss when x moves along a step, (C,)."""
    return _of_channels(upstream, f(x + 1e-30j * step, *parameters))


def _of_channels(upstream: Array, y: Array) -> Array:
    found: Array = (upstream * y.imag).sum(axis=(0, *range(2, y.ndim))) * 1e30
    return found


def _spread(vector: Array, x: Array) -> Array:
    """A (C,) vector, broadcastable to x."""
    return np.reshape(vector, (1, -1) + (1,) * (x.ndim - 2))
