"""Python's and NumPy's random numbers, the same in every run: for forwards that are compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import get_ident
from typing import Any, Final

import numpy as np

_NUMPY: Final = (
    "rand", "randn", "random", "random_sample", "uniform", "normal", "standard_normal", "randint", "choice",
    "permutation", "shuffle", "beta", "gamma", "binomial", "poisson", "exponential",
)  # fmt: skip
_PYTHON: Final = (
    "random", "uniform", "randint", "randrange", "choice", "choices", "sample", "shuffle", "gauss", "betavariate",
)  # fmt: skip
_UNIFORM: Final = ("rand", "random", "random_sample")


class HostChance:
    """Python's and NumPy's random numbers, fixed.

    Attributes:
        chooses: Whether a single uniform number was drawn, which may decide whether layers run.
    """

    def __init__(self) -> None:
        self.chooses = False


@contextmanager
def host_chance(size: int, uniform: float) -> Iterator[HostChance]:
    """Equal calls of `random.*` and `np.random.*` draw equal numbers, one for all samples; both states are put back.

    A model may draw once a sample, in a loop: each call begins anew. Generators of one's own are left alone, and so
    are other threads.

    Args:
        size: Samples in the batch: along an axis of that length all numbers are the first.
        uniform: What uniform numbers are, in [0, 1).
    """
    noted, thread = HostChance(), get_ident()
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  # those that models draw from
    replaced: list[tuple[Any, str, Any]] = []

    def replace(module: Any, name: str, seed: Callable[[int], object]) -> None:
        draw = getattr(module, name)

        @wraps(draw)
        def drawn(*args: Any, **kwargs: Any) -> Any:
            if get_ident() != thread:
                return draw(*args, **kwargs)
            seed(0)
            found = draw(*args, **kwargs)
            if name not in _UNIFORM and name != "uniform":
                return _alike(found, size, name)
            noted.chooses = noted.chooses or np.ndim(found) == 0
            low, high = (0.0, 1.0) if name in _UNIFORM else _limits(*args, **kwargs)
            value = low + uniform * (np.asarray(high) - low)
            return (
                np.broadcast_to(value, found.shape).copy() if isinstance(found, np.ndarray) else float(value)
            )

        replaced.append((module, name, draw))
        setattr(module, name, drawn)

    try:
        for name in _NUMPY:
            replace(np.random, name, np.random.seed)
        for name in _PYTHON:
            replace(random, name, random.seed)
        yield noted
    finally:
        for module, name, draw in replaced:
            setattr(module, name, draw)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _limits(low: Any = 0.0, high: Any = 1.0, size: Any = None, *, a: Any = None, b: Any = None) -> Any:
    """The limits of `np.random.uniform(low, high, size)` and `random.uniform(a, b)`."""
    return low if a is None else a, high if b is None else b


def _alike(found: Any, size: int, name: str) -> Any:
    """An array of numbers with those of the first sample for all; a choice or an order as it is."""
    if not isinstance(found, np.ndarray) or name in ("choice", "permutation", "shuffle"):
        return found
    for axis, length in enumerate(found.shape):
        if length == size:
            found = np.repeat(found.take([0], axis), size, axis)
    return found
