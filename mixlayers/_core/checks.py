"""Numbers as people pass them: checked, and as Python's own, which JSON holds and whose `repr` evaluates."""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import fields
from typing import Any

import numpy as np


def check_integer(name: str, value: Any, low: int, high: int, hint: str = "pass an integer in it.") -> int:
    """The value as a Python integer.

    Args:
        name: What the error calls it.
        value: Any integer, NumPy's too.
        low, high: The smallest and the largest that is taken.
        hint: The way out, for the error.

    Raises:
        TypeError: If it is no integer; True and False are none.
        ValueError: If it is not in [low, high].
    """
    try:
        whole: int | None = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if not low <= whole <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {whole}: {hint}")
    return whole


def check_names(name: str, value: Collection[str]) -> Collection[str]:
    """Names as they are; one that stands alone would be taken for its letters, or for all names within it.

    Args:
        name: What the error calls them.
        value: The names.

    Raises:
        TypeError: If it is a string.
    """
    if isinstance(value, str):
        raise TypeError(f"{name} is a list of names, got {value!r}: {name}=[{value!r}].")
    return value


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def keep(frozen: object, **values: object) -> None:
    """Store checked values in the fields of a frozen dataclass, while it is made."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def keep_plain(frozen: Any) -> None:
    """Store a frozen dataclass's NumPy numbers as Python's, while it is made."""
    for field in fields(frozen):
        keep(frozen, **{field.name: plain(getattr(frozen, field.name))})


def same_fields(one: Any, other: Any) -> bool:
    """Whether two objects of one class have equal attributes; arrays are compared by their values."""
    return type(one) is type(other) and all(
        np.array_equal(value, getattr(other, name))
        if isinstance(value, np.ndarray)
        else bool(np.all(value == getattr(other, name)))
        for name, value in vars(one).items()
    )
