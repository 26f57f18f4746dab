"""The few names of pytest that the shared test bodies use, for a machine that has no pytest."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


def install() -> None:
    """Have `import pytest` find them, where there is none."""
    module = ModuleType("pytest")
    vars(module).update(
        mark=_Marks(), approx=_Approx, param=_Param, raises=raises, warns=warns, fixture=fixture
    )
    sys.modules["pytest"] = module


class _Param:
    """One case of a parametrised test."""

    def __init__(self, *values: Any, marks: Any = (), id: str | None = None) -> None:
        self.values = values


class _Marks:
    """`pytest.mark`: each mark is kept where pytest keeps it."""

    def __getattr__(self, name: str) -> Any:
        def mark(*args: Any, **kwargs: Any) -> Any:
            def put(function: Any) -> Any:
                own = SimpleNamespace(name=name, args=args, kwargs=kwargs)
                function.pytestmark = [*getattr(function, "pytestmark", []), own]
                return function

            return put

        return mark


class _Approx:
    """A number, or several, to 1e-6 of itself."""

    __array_ufunc__ = None  # an array compares itself with this, not its elements

    def __init__(self, expected: Any, rel: float = 1e-6, abs: float = 1e-12) -> None:
        self.expected, self.rel, self.abs = expected, rel, abs

    def __eq__(self, other: object) -> bool:
        ours, theirs = np.asarray(self.expected, float), np.asarray(other, float)
        return ours.shape == theirs.shape and np.allclose(theirs, ours, self.rel, self.abs)

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def raises(expected: Any, match: str | None = None) -> Iterator[SimpleNamespace]:
    """`pytest.raises`."""
    found = SimpleNamespace(value=None)
    try:
        yield found
    except expected as error:
        found.value = error
        if match is not None and not re.search(match, str(error)):
            raise AssertionError(f"{match!r} does not match {str(error)!r}") from error
    else:
        raise AssertionError(f"{expected} was not raised")


@contextmanager
def warns(expected: Any = Warning, match: str = "") -> Iterator[list[warnings.WarningMessage]]:
    """`pytest.warns`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    if not any(isinstance(w.message, expected) and re.search(match, str(w.message)) for w in caught):
        raise AssertionError(f"no {expected} that matches {match!r}")


def fixture(*args: Any, **kwargs: Any) -> Any:
    """`pytest.fixture`: bodies that ask for more than the framework are left out anyway."""
    return args[0] if args and callable(args[0]) else lambda function: function
