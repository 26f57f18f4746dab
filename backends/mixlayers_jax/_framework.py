"""JAX's side of the core's operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from mixlayers._core.errors import refuse
from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers_jax._blend import Partners, blend, replace

IGNORED: Final = -100
"""The number of labels that do not count, by default."""


class Jax(Framework):
    """JAX's arrays, traced or not, and NumPy's, which JAX takes as its own."""

    module = type(None)
    ignored = IGNORED

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, Array | np.ndarray)

    def is_float(self, x: Any) -> bool:
        return bool(jnp.issubdtype(x.dtype, jnp.inexact))

    def move_axis(self, x: Any, source: int, destination: int) -> Array:
        return jnp.moveaxis(x, source, destination)

    def maximum(self, x: Any, y: Any) -> Array:
        return jnp.maximum(x, y)

    def concatenate(self, parts: Sequence[Any]) -> Array:
        return jnp.concatenate(parts)

    def full(self, size: int, value: float, like: Any) -> Array:
        return jnp.full(size, value, jnp.float32)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        return np.asarray(x)

    def is_bool(self, x: Any) -> bool:
        return bool(x.dtype == jnp.bool_)

    def to_float(self, x: Any) -> Any:
        return x.astype(np.float32)

    def hot(self, y: Any, num_classes: int) -> Any:
        return (y[..., None] == np.arange(num_classes)).astype(np.float32)

    def top(self, scores: Any, k: int) -> Array:
        return jnp.argsort(-scores, axis=1)[:, :k]

    def checks(self, y: Any) -> bool:
        return not isinstance(y, Tracer) and (isinstance(y, np.ndarray) or _on_host(y))

    def partners(self, perm: Permutation) -> Partners:
        return Partners.drawn(perm)

    def blend(self, x: Any, how: Blend, partners: Partners) -> Array:
        return blend(x, how, partners)

    def replace(self, x: Any, how: Replace) -> Array:
        return replace(x, how)

    def precise(self, x: Any) -> Array:
        return jnp.asarray(x).astype(jnp.promote_types(x.dtype, jnp.float32))

    def like(self, x: Any, other: Any) -> Array:
        return jnp.asarray(x).astype(other.dtype)

    def moments(self, x: Any, axes: tuple[int, ...]) -> tuple[Array, Array]:
        return jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, ddof=1, keepdims=True)

    def detached(self, x: Any) -> Array:
        return jax.lax.stop_gradient(x)

    def exp(self, x: Any) -> Array:
        return jnp.exp(x)

    def log_sum_exp(self, x: Any, axis: int) -> Array:
        return jax.nn.logsumexp(x, axis, keepdims=True)

    def noise(self, x: Any, law: Literal["uniform", "normal"], seed: int) -> Array:
        key = jax.random.key(seed)
        if law == "normal":
            return jax.random.normal(key, x.shape, x.dtype)
        return jax.random.uniform(key, x.shape, x.dtype, -1.0)

    def points(self, x: Any, index: Any) -> Array:
        return jnp.take_along_axis(x, index[:, None], 2)

    def where(self, mask: Any, x: Any, y: Any) -> Array:
        return jnp.where(mask, x, y)

    def either(self, which: Any, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        return (
            (first() if which else second())
            if isinstance(which, bool)
            else jax.lax.cond(which, first, second)
        )

    def repeated(self, step: Callable[[Any], Any], start: Any, times: int) -> Any:
        return jax.lax.fori_loop(1, times, lambda _, state: step(state), step(start))  # compiled once

    def share(self, s: Lam, like: Any, partners: Any = None) -> Any:
        return jnp.asarray(s) if isinstance(s, np.ndarray) else s

    def rank(self) -> int:
        return jax.process_index()

    def check_mixing(self) -> None:
        if is_traced():
            refuse(
                "a plan drawn while JAX traces would be baked in: every call of the compiled function would mix by "
                "this one plan",
                "draw it outside, plan = mixer.plan(batch_size), and hand it to the jitted function as an argument",
            )


JAX: Final = Jax()


def is_traced() -> bool:
    """Whether this runs while JAX traces a function whose operations are recorded: jit, scan, vmap of them."""
    return isinstance(jnp.add(0, 0), Tracer)


def _on_host(x: Array) -> bool:
    return x.is_fully_addressable and all(device.platform == "cpu" for device in x.devices())
