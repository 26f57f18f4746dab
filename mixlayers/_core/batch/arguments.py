"""A call's arguments by their names, also those that are given by position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def positional(forward: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a function takes by position, in order."""
    try:
        taken = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # of a built-in
        return []
    return [each.name for each in taken if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]


def by_name(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str | int, Any]:
    """One dict of a call's arguments, first those by position; one without a name is called by its number.

    Args:
        names: Those of the arguments by position.
        args, kwargs: The call's.
    """
    named = [name if name not in kwargs else at for at, name in enumerate(names)]
    return {**dict(zip([*named, *range(len(names), len(args))], args, strict=False)), **kwargs}


def as_call(arguments: Mapping[str | int, Any], count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call again, whose first `count` arguments are given by position."""
    items = list(arguments.items())
    return tuple(value for _, value in items[:count]), {str(name): value for name, value in items[count:]}
