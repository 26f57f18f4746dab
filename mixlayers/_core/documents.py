"""Docstrings whose arguments stand once, in a class that others derive from or take them for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Final

_ARGUMENTS: Final = re.compile(r"^Args:\n((?: .*\n|\n)*)", re.MULTILINE)
_ATTRIBUTES: Final = re.compile(r"^Attributes:\n(?: .*\n|\n)*", re.MULTILINE)
_ENTRY: Final = re.compile(r"^    (\w+(?:, \w+)*): .*\n(?: {5,}.*\n)*", re.MULTILINE)


def add_arguments(kind: type | Callable[..., Any], base: type) -> None:
    """Add to a docstring, of a class or function, what a class's says from "Args:" on; the own arguments stay first."""
    own, shared = (f"{inspect.cleandoc(each.__doc__ or '')}\n" for each in (kind, base))
    if not isinstance(kind, type):  # which has no attributes
        shared = _ATTRIBUTES.sub("", shared)
    theirs, said = _ARGUMENTS.search(shared), _ARGUMENTS.search(own)
    if theirs is None:
        return  # python -OO
    before, mine, after = (own, "", "") if said is None else (own[: said.start()], said[1], own[said.end() :])
    told = {name for entry in _ENTRY.finditer(mine) for name in entry[1].split(", ")}
    new = [entry[0] for entry in _ENTRY.finditer(theirs[1]) if not told & set(entry[1].split(", "))]
    arguments = "\n".join(filter(None, (part.strip("\n") for part in (mine, *new))))
    rest = "\n\n".join(filter(None, (part.strip("\n") for part in (after, shared[theirs.end() :]))))
    kind.__doc__ = f"{before.rstrip()}\n\nArgs:\n{arguments}\n\n{rest}".rstrip()
