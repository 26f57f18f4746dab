"""What a plan does to a feature, as data of a jitted function."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import jax
import numpy as np

from mixlayers._core.plan.acts import STATIC
from mixlayers._core.plan.plan import Act

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
