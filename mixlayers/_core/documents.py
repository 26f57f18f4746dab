"""Docstrings whose arguments stand once, in a class that others derive from or take them for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Final

_ARGUMENTS: Final = re.compile(r"^Args:\n((?: .*\n|\n)*)", re.MULTILINE)
_ATTRIBUTES: Final = re.compile(r"^Attributes:\n(?: .*\n|\n)*", re.MULTILINE)
_ENTRY: Final = re.compile(r"^    (\w+(?:, \w+)*): .*\n(?: {5,}.*\n)*", re.MULTILINE)


def add_arguments(kind: type | Callable[..., Any], base: type | Callable[..., Any]) -> None:
    """Add to a docstring, of a class or function, what another's says from "Args:" on; the own arguments stay first.

    A function without `**options` has told what it takes, in its own order.
    """
    own, shared = (f"{inspect.cleandoc(each.__doc__ or '')}\n" for each in (kind, base))
    if not isinstance(kind, type):  # which has no attributes
        shared = _ATTRIBUTES.sub("", shared)
    theirs, said = _ARGUMENTS.search(shared), _ARGUMENTS.search(own)
    if theirs is None:
        return  # python -OO
    before, mine, after = (own, "", "") if said is None else (own[: said.start()], said[1], own[said.end() :])
    entries = {tuple(entry[1].split(", ")): entry[0] for entry in _ENTRY.finditer(mine)}
    told = {name for names in entries for name in names}
    for entry in _ENTRY.finditer(theirs[1]):
        if not told & set(entry[1].split(", ")):
            entries[tuple(entry[1].split(", "))] = entry[0]
    entries = entries if isinstance(kind, type) else _taken(kind, entries)
    arguments = "\n".join(entry.strip("\n") for entry in entries.values())
    rest = "\n\n".join(filter(None, (part.strip("\n") for part in (after, shared[theirs.end() :]))))
    kind.__doc__ = f"{before.rstrip()}\n\nArgs:\n{arguments}\n\n{rest}".rstrip()


def _taken(function: Callable[..., Any], entries: dict[tuple[str, ...], str]) -> dict[tuple[str, ...], str]:
    """The entries of what a function takes, in its order; all, if it takes any options."""
    parameters = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return entries
    at = {name: place for place, name in enumerate(parameters)}
    own = sorted((names for names in entries if at.keys() >= set(names)), key=lambda names: at[names[0]])
    return {names: entries[names] for names in own}
