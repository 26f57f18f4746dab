"""Walk the containers that models take and return: tuples, named tuples, lists, dicts, dataclasses.

Hugging Face's ModelOutput is a dict and comes back as the same class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any


def tree_map(
    f: Callable[[Any], Any],
    tree: Any,
    *,
    keep: Collection[str] = (),
    is_leaf: Callable[[Any], bool] = lambda node: False,
) -> Any:
    """Apply f to every leaf; containers are rebuilt, or returned as they are if nothing in them changed.

    Args:
        f: Takes a leaf.
        tree: A container, or a leaf.
        keep: Keys and names of what stays as it is.
        is_leaf: Which containers are leaves too.
    """

    def mapped_of(node: Any) -> Any:
        return tree_map(f, node, keep=keep, is_leaf=is_leaf)

    if is_leaf(tree):
        return f(tree)
    if isinstance(tree, tuple | list):
        items = [
            item if name in keep else mapped_of(item)
            for name, item in zip(getattr(tree, "_fields", [None] * len(tree)), tree, strict=True)
        ]
        if all(new is old for new, old in zip(items, tree, strict=True)):
            return tree
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if isinstance(tree, MutableMapping):
        mapped = {key: value if key in keep else mapped_of(value) for key, value in tree.items()}
        changed = {key: value for key, value in mapped.items() if value is not tree[key]}
        result = copy.copy(tree) if changed else tree
        for key, value in changed.items():
            result[key] = value
        return result
    if is_dataclass(tree) and not isinstance(tree, type):
        before = {field.name: getattr(tree, field.name) for field in fields(tree)}
        mapped = {name: value if name in keep else mapped_of(value) for name, value in before.items()}
        changed = {name: value for name, value in mapped.items() if value is not before[name]}
        if not changed:
            return tree
        replaced = copy.copy(tree)
        for name, value in changed.items():
            object.__setattr__(replaced, name, value)
        return replaced
    return f(tree)


def tree_zip(f: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    """Apply f to the leaves of two containers of one structure; entries of dicts meet by their keys.

    Raises:
        ValueError: If their structures differ.
    """
    ours, theirs = list(paths(one)), dict(paths(other))
    if (
        (type(one) is not type(other) and (_told_apart(one) or _told_apart(other)))
        or len(ours) != len(theirs)
        or any(path not in theirs for path, _ in ours)
    ):
        raise ValueError(
            f"the two sides of a blend differ in structure, {type(one).__name__} of {len(ours)} and "
            f"{type(other).__name__} of {len(theirs)} values: return the same for any labels."
        )
    seen = iter([(leaf, theirs[path]) for path, leaf in ours])
    return tree_map(lambda _: f(*next(seen)), one)


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each leaf, in order, with the keys, names and positions that lead to it."""
    entries: list[tuple[Any, Any]]
    if isinstance(tree, tuple | list):
        entries = list(enumerate(tree))
    elif isinstance(tree, MutableMapping):
        entries = list(tree.items())
    elif is_dataclass(tree) and not isinstance(tree, type):
        entries = [(field.name, getattr(tree, field.name)) for field in fields(tree)]
    else:
        yield path, tree
        return
    for at, value in entries:
        yield from paths(value, (*path, at))


def _told_apart(tree: Any) -> bool:
    """Whether something is a container, or no number: arrays may be of two types, traced and not."""
    return tree is None or isinstance(tree, str) or next(leaves(tree), None) is not tree


def scaled(tree: Any, factor: float) -> Any:
    """A loss, or a container of losses, times a factor; what is no number or tensor stays."""
    return tree_map(lambda x: x if x is None or isinstance(x, str | bool | int) else x * factor, tree)


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves, in order."""
    if isinstance(tree, tuple | list):
        for item in tree:
            yield from leaves(item)
    elif isinstance(tree, MutableMapping):
        for value in tree.values():
            yield from leaves(value)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from leaves(getattr(tree, field.name))
    else:
        yield tree
