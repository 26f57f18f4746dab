"""Carry out a blend on arrays: one gather, whose transpose is itself with the inverse permutation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.pairs import inverse
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Partners:
    """A step's permutation and its inverse.

    Attributes:
        perm, inverse: int32 (N,); or (D, N / D) where samples mix within D groups of neighbours only, such as the
            parts of a batch that D devices hold.
    """

    perm: Any
    inverse: Any

    @classmethod
    def drawn(cls, perm: Permutation) -> Partners:
        """Those of a plan."""
        return cls(perm.astype(np.int32), inverse(perm).astype(np.int32))

    def of(self, y: Any) -> Any:
        """`y[perm]`; on the host if both are there."""
        perm = self.perm
        if not isinstance(y, np.ndarray) or not isinstance(perm, np.ndarray):
            return rows(y, perm)
        if perm.ndim > 1:
            groups, size = perm.shape
            perm = (perm + size * np.arange(groups)[:, None]).reshape(-1)
        return y[perm]


@partial(jax.jit, inline=True)
def rows(x: Array, perm: Any) -> Array:
    """`x[perm]`, within groups where perm has them."""
    if perm.ndim == 1:
        return _take(x, perm)
    grouped = x.reshape(*perm.shape, *x.shape[1:])
    return jax.vmap(_take)(grouped, jnp.asarray(perm)).reshape(x.shape)


def _take(x: Array, perm: Any) -> Array:
    return x.at[perm].get(unique_indices=True, mode="promise_in_bounds")


def blend(x: Any, how: Blend, partners: Partners) -> Array:
    """`x + w * (x[perm] - x)` with `w = mask * (1 - lam)`, in x's dtype; half precision is calculated in float32.

    Where the mask is False, x is selected, not multiplied: a partner's NaN or inf stays under the mask.

    Args:
        x: Feature, batch axis first, floating point or complex.
        how: The plan, brought to x's shape.
        partners: The plan's permutation.
    """
    x = jnp.asarray(x)
    hard = isinstance(how.lam, float) and how.lam == 0.0
    return _compiled(x, partners.perm, partners.inverse, how.lam, how.mask, hard)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _mixed(x: Array, perm: Any, inverse: Any, lam: Any, mask: Any, hard: bool) -> Array:
    partner = rows(x, perm)
    if not hard:
        keep = _weights(lam, x)
        partner = (keep * x + (1.0 - keep) * partner).astype(x.dtype)
    return partner if mask is None else jnp.where(mask, partner, x)


def _forward(
    x: Array,
    perm: Any,
    inverse: Any,
    lam: Any,
    mask: Any,
    hard: bool,
) -> tuple[Array, Any]:
    return _mixed(x, perm, inverse, lam, mask, hard), (inverse, lam, mask)


def _backward(hard: bool, kept: Any, gradient: Array) -> tuple[Any, ...]:
    """To each sample its own share, and what it gave away; autodiff would scatter-add, in twice the time."""
    inverse, lam, mask = kept
    keep = _weights(lam, gradient)
    own = jnp.zeros_like(gradient) if hard else keep * gradient
    given = gradient if hard else (1.0 - keep) * gradient
    if mask is not None:
        own, given = jnp.where(mask, own, gradient), jnp.where(mask, given, 0.0)
    return (own + rows(given, inverse)).astype(gradient.dtype), None, None, None, None


_mixed.defvjp(_forward, _backward)
_compiled = jax.jit(_mixed, static_argnums=5, inline=True)  # one kernel also where nothing else is compiled


def _weights(lam: Any, x: Array) -> Array:
    """lam, broadcastable to x, in x's precision but float32 at least."""
    return spread(jnp.asarray(lam, jnp.promote_types(jnp.finfo(x.dtype).dtype, jnp.float32)), x)


def spread(per_sample: Array, x: Array) -> Array:
    """() or (N,), broadcastable to x."""
    return (
        per_sample.reshape(per_sample.shape + (1,) * (x.ndim - per_sample.ndim))
        if per_sample.ndim
        else per_sample
    )


def replace(x: Any, how: Replace) -> Array:
    """The fill under the mask, `scale * x` elsewhere, in x's dtype.

    Args:
        x: Feature, batch axis first, floating point or complex.
        how: The plan, brought to x's shape.
    """
    x = jnp.asarray(x)
    scaled = (x * how.scale).astype(x.dtype)
    return jnp.where(how.mask, jnp.asarray(how.fill).astype(x.dtype), scaled)
