"""IEBN's formula on arrays, once for all libraries: their own batch normalisation comes before it."""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp

STARTS: Final = {"weight_readjust": 0.0, "bias_readjust": -1.0}
"""The parameters that BatchNorm has not, and their first values."""


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
        x: The raw input, before it was normalised.
        normed: BatchNorm's output, its weight and bias applied; in training and eval mode alike.
        bias: The bias in it, or None.
        weight_readjust, bias_readjust: Of the shape of x's axes `features`.
        features: The channels' axes, from 0 on and in order.
        samples: The samples' axes; none where x is one sample.
        mask: True where x counts, broadcastable to x; None: everywhere.

    Raises:
        ValueError: If an axis is the samples' and the channels'.
    """
    if both := set(features) & set(samples):
        raise ValueError(
            f"IEBN scales each sample's channels, so axis {min(both)} of an input {x.shape} cannot be the samples' and "
            "the channels': axis= names the channels, and the samples come first."
        )
    kind = jnp.promote_types(x.dtype, jnp.float32)  # a mean that half precision rounds moves the attention
    high = x.astype(kind)
    space = tuple(axis for axis in range(x.ndim) if axis not in (*features, *samples))
    others = tuple(axis for axis in range(x.ndim) if axis not in features)
    if mask is None:
        gap = high.mean(space, keepdims=True)
    else:
        counts = jnp.broadcast_to(mask, x.shape)
        total = high.sum(space, keepdims=True, where=counts)
        gap = total / counts.sum(space, keepdims=True).clip(1)  # a sample may be all padding
    z = jnp.expand_dims(weight_readjust, others) * gap + jnp.expand_dims(bias_readjust, others)
    y = jax.nn.sigmoid(z) * normed
    if bias is not None:
        y = y + jax.nn.sigmoid(-z) * jnp.expand_dims(bias, others)  # 1 - a, to the last digit
    return y.astype(normed.dtype)


def channel_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """A number or several, of the channels' axes: from 0 on and in order."""
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(sorted({each % ndim for each in axes}))


def kept_output(weight: Any) -> Any:
    """A weight with which a new IEBN computes what BatchNorm did."""
    return weight / jax.nn.sigmoid(jnp.asarray(STARTS["bias_readjust"], weight.dtype))


def folded(weight: Any, bias_readjust: Any) -> Any:
    """A weight with which BatchNorm computes what an IEBN does whose weight_readjust is 0."""
    return weight * jax.nn.sigmoid(bias_readjust)


def iebn_decay_mask(params: Any) -> Any:
    """Which parameters decay, for optax: all but IEBN's attention, `optax.adamw(1e-3, mask=iebn_decay_mask)`.

    Decay pulls bias_readjust from -1 to 0, which lets every sample through at half scale.

    Args:
        params: Parameters in any tree that names them: Linen's dict, an NNX state, an Equinox model.

    Returns:
        True or False for each.

    Raises:
        ValueError: If none is IEBN's.
    """

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        return STARTS.keys().isdisjoint(getattr(key, "key", getattr(key, "name", None)) for key in path)

    mask = jax.tree_util.tree_map_with_path(decays, params)
    if all(jax.tree.leaves(mask)):
        raise ValueError(
            "the parameters hold no IEBN's: convert the model first, or put IEBN where BatchNorm stood."
        )
    return mask
