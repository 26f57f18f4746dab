"""IEBN's and RBN's formulas on arrays, once for all libraries: their own batch normalisation is a part of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp

from mixlayers._core.iebn import IEBN_STARTS, RBN_STARTS

_ADDED: Final = {*IEBN_STARTS, *RBN_STARTS}
"""The names of all that IEBN and RBN have and BatchNorm has not."""


class Bare:
    """A layer to its own BatchNorm's eyes, but for some attributes: so that it leaves out its weight and bias."""

    def __init__(self, layer: Any, **instead: Any) -> None:
        self._layer = layer
        self.__dict__ |= instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


def recentred(
    x: Any,
    weight_recenter: Any,
    *,
    features: tuple[int, ...],
    samples: tuple[int, ...] = (0,),
    mask: Any = None,
) -> Any:
    """`x + weight_recenter * mean_over_space(x)`, of x's dtype; the other arguments are those of `gated`.

    Raises:
        ValueError: If x has other channels, of which one alone would be repeated; if an axis is the samples' too.
    """
    channels = tuple(x.shape[axis] for axis in features)
    if channels != jnp.shape(weight_recenter):
        raise ValueError(
            f"RBN has channels {jnp.shape(weight_recenter)}, and an input {x.shape} has {channels} at {features}: make "
            "the layer for as many, or name their axis."
        )
    gap, others = _gap(x, features, samples, mask)
    return (x + jnp.expand_dims(weight_recenter, others) * gap).astype(x.dtype)


def affine(xhat: Any, weight: Any, bias: Any, features: tuple[int, ...], dtype: Any) -> Any:
    """`xhat * weight + bias`, each of them or None; of a dtype, None: of the one that they make together."""
    others = tuple(axis for axis in range(xhat.ndim) if axis not in features)
    y = xhat if weight is None else xhat * jnp.expand_dims(weight, others)
    y = y if bias is None else y + jnp.expand_dims(bias, others)
    return y if dtype is None else y.astype(dtype)


def gated(
    x: Any,
    normed: Any,
    bias: Any,
    weight_readjust: Any,
    bias_readjust: Any,
    *,
    features: tuple[int, ...],
    samples: tuple[int, ...] = (0,),
    mask: Any = None,
) -> Any:
    """`a * normed + (1 - a) * bias`, of normed's dtype: each sample's channels, scaled by their attention a.

    Args:
        x: What the attention reads: IEBN's raw input, RBN's normalised one.
        normed: BatchNorm's output, its weight and bias applied; in training and eval mode alike.
        bias: The bias in it, or None.
        weight_readjust, bias_readjust: Of the shape of x's axes `features`.
        features: The channels' axes, from 0 on and in order.
        samples: The samples' axes; none where x is one sample.
        mask: True where x counts, broadcastable to x; None: everywhere.

    Raises:
        ValueError: If an axis is the samples' and the channels'.
    """
    gap, others = _gap(x, features, samples, mask)
    z = jnp.expand_dims(weight_readjust, others) * gap + jnp.expand_dims(bias_readjust, others)
    y = jax.nn.sigmoid(z) * normed
    if bias is not None:
        y = y + jax.nn.sigmoid(-z) * jnp.expand_dims(bias, others)  # 1 - a, to the last digit
    return y.astype(normed.dtype)


def _gap(
    x: Any, features: tuple[int, ...], samples: tuple[int, ...], mask: Any
) -> tuple[Any, tuple[int, ...]]:
    """The mean over space, float32 at least, and the axes that are not the channels'."""
    if both := set(features) & set(samples):
        raise ValueError(
            f"each sample's channels are scaled, so axis {min(both)} of an input {x.shape} cannot be the samples' and "
            "the channels': axis= names the channels, and the samples come first."
        )
    kind = jnp.promote_types(x.dtype, jnp.float32)  # a mean that half precision rounds moves the attention
    high = x.astype(kind)
    space = tuple(axis for axis in range(x.ndim) if axis not in (*features, *samples))
    others = tuple(axis for axis in range(x.ndim) if axis not in features)
    if mask is None:
        return high.mean(space, keepdims=True), others
    counts = jnp.broadcast_to(mask, x.shape)
    total = high.sum(space, keepdims=True, where=counts)
    return total / counts.sum(space, keepdims=True).clip(1), others  # a sample may be all padding


def channel_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """A number or several, of the channels' axes: from 0 on and in order."""
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(sorted({each % ndim for each in axes}))


def kept_output(weight: Any, starts: Mapping[str, float]) -> Any:
    """A weight with which a new layer computes what BatchNorm did."""
    return weight / jax.nn.sigmoid(jnp.asarray(starts["bias_readjust"], weight.dtype))


def folded(weight: Any, bias_readjust: Any) -> Any:
    """A weight with which BatchNorm computes what a layer does whose attention is the same for all samples."""
    return weight * jax.nn.sigmoid(bias_readjust)


def iebn_decay_mask(params: Any) -> Any:
    """Which parameters decay, for optax: all but what IEBN and RBN add, `optax.adamw(1e-3, mask=iebn_decay_mask)`.

    Decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale.

    Args:
        params: Parameters in any tree that names them: Linen's dict, an NNX state, an Equinox model.

    Returns:
        True or False for each.

    Raises:
        ValueError: If none is theirs.
    """

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        return _ADDED.isdisjoint(getattr(key, "key", getattr(key, "name", None)) for key in path)

    mask = jax.tree_util.tree_map_with_path(decays, params)
    if all(jax.tree.leaves(mask)):
        raise ValueError(
            "the parameters hold no IEBN's or RBN's: convert the model first, or put IEBN where BatchNorm stood."
        )
    return mask
