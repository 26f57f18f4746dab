"""Equinox models as trees of layers with names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import equinox as eqx


def named_modules(model: Any) -> dict[str, Any]:
    """The layers of a model by name, itself left out."""
    return {".".join(path): module for path, module in _modules(model, ())}


def layer_at(name: str, model: Any) -> Any:
    """The layer of a name as `named_modules` has it."""
    for part in name.split("."):
        model = (
            model[int(part)]
            if isinstance(model, tuple | list)
            else model[part]
            if isinstance(model, dict)
            else getattr(model, part)
        )
    return model


def _modules(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, eqx.Module):
        if path and callable(node):
            yield path, node
        children = [(name, getattr(node, name, None)) for name in node.__dataclass_fields__]
    elif isinstance(node, tuple | list):
        children = [(str(at), child) for at, child in enumerate(node)]
    elif isinstance(node, dict):
        children = list(node.items())
    else:
        return
    for name, child in children:
        yield from _modules(child, (*path, str(name)))
