"""An object's plain attributes, and putting them back: counters, caches and lists that a forward may change."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

_OTHERWISE: Final = frozenset({"_parameters", "_modules", "_sub_layers", "_buffers", "training"})
"""What frameworks keep there and others restore."""

Contents = list[tuple[Any, Any]]
"""Containers, each with a copy."""


def kept_attributes(owner: object) -> tuple[dict[str, Any], Contents]:
    """A module's plain attributes, and what the containers among them hold; hooks are none of them."""
    own = {name: value for name, value in vars(owner).items() if _is_plain(name)}
    return own, [(value, value.copy()) for value in own.values() if type(value) in (list, dict, set, deque)]


def put_back(now: dict[str, Any], own: dict[str, Any], contents: Contents) -> None:
    """Make a module's `vars` what they were; containers stay the same objects."""
    for name in [name for name in now if _is_plain(name) and name not in own]:
        del now[name]
    for name, value in own.items():
        if now.get(name, now) is not value:
            now[name] = value
    for container, before in contents:
        if isinstance(container, dict):
            if not _same(list(container.items()), list(before.items())):
                container.clear()
                container.update(before)
        elif isinstance(container, set):
            if container != before:  # else not even their order may change
                container.clear()
                container.update(before)
        elif not _same(list(container), list(before)):
            container.clear()
            container.extend(before)


def _is_plain(name: str) -> bool:
    return name not in _OTHERWISE and "_hooks" not in name


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether two lists, or lists of pairs, hold the same objects."""
    if len(now) != len(before):
        return False
    pairs = ((a, b) if isinstance(a, tuple) else ((a,), (b,)) for a, b in zip(now, before, strict=True))
    return all(
        isinstance(b, tuple) and len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
        for a, b in pairs
    )
