"""What a plan does to a feature, as data of a jitted function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import prod
from typing import Any, Final

import jax
import numpy as np

from mixlayers._core.plan.alignments import Align
from mixlayers._core.plan.blends import Weigh
from mixlayers._core.plan.noise import Jitter
from mixlayers._core.plan.plan import Act, Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.resized import Paste
from mixlayers._core.plan.styles import Restyle

STATIC: Final[dict[type, frozenset[str]]] = {
    Blend: frozenset({"box"}),
    Weigh: frozenset(),
    Paste: frozenset({"channel_dim"}),
    Replace: frozenset(),
    Restyle: frozenset({"shape", "axes", "eps", "detached"}),
    Align: frozenset({"eps", "rounds", "channel_dim"}),
    Jitter: frozenset(),
}
"""What can be done to a feature, and which fields of each are the method's own, alike in all of its steps."""

_ZEROS: Final[dict[type, tuple[str, ...]]] = {
    Blend: ("lam",),
    Restyle: ("keep",),
    Jitter: ("multiply", "add"),
}
"""Numbers that some methods have at 0, which spares work."""

for kind, static in STATIC.items():
    names = [each.name for each in fields(kind)]
    jax.tree_util.register_dataclass(
        kind, [name for name in names if name not in static], [name for name in names if name in static]
    )


def as_data(how: Act) -> Act:
    """An act as jitted functions take it: its partners are the plan's, and its numbers are arrays."""
    static = STATIC[type(how)]
    given = {each.name: getattr(how, each.name) for each in fields(how)}
    given |= dict.fromkeys({"perm", "box"} & given.keys())
    return type(how)(**{name: value if name in static else _narrow(value) for name, value in given.items()})


def zeros(how: Act) -> tuple[str, ...]:
    """The names of an act's numbers that are 0 in each step of its method; of a blend's lam only under a mask."""
    if isinstance(how, Blend) and how.mask is None:
        return ()
    values = {name: getattr(how, name) for name in _ZEROS.get(type(how), ())}
    return tuple(name for name, value in values.items() if isinstance(value, float) and value == 0.0)


def mask_of(act: Any) -> Any:
    """What of an act differs from point to point of the feature; None: nothing, or it says so of no partner."""
    return act.keep if isinstance(act, Weigh) else getattr(act, "mask", None)


def drawn_for(act: Any, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that an act was drawn for, where it fits no feature of this one; None: it does."""
    if isinstance(act, Restyle):
        if act.shape is not None:
            return None if prod(act.shape) == prod(shape) else act.shape
        own = None if act.noise is None else tuple(act.noise.shape[1:])
    else:
        mask = mask_of(act)
        own = None if mask is None else tuple(mask.shape)
    if own is None or (
        len(own) == len(shape) and all(a in (1, size) for a, size in zip(own, shape, strict=True))
    ):
        return None
    return own


def number(value: Any) -> np.ndarray[Any, Any]:
    """A number or array as float32; as float64 where JAX calculates so and it is known so well."""
    return np.asarray(value, np.float32 if np.ndim(value) else jax.dtypes.canonicalize_dtype(np.float64))


def _narrow(value: Any) -> Any:
    """A field of the core's act as jitted functions take it."""
    if type(value) in STATIC:
        return as_data(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bool):
        return np.asarray(value)
    if isinstance(value, int) or (isinstance(value, np.ndarray) and value.dtype == np.int64):
        return np.asarray(value, np.int32)
    return value
