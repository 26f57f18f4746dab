"""The label's place in a batch, in torchvision's manner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mixlayers._core.framework.tree import tree_map

LabelsGetter = Callable[[Any], Any] | str | int | None
"""A function of the collated batch that returns its labels, as torchvision's `labels_getter`; a key or a position;
None: the second of (x, y), or the one entry of a dict or named tuple that is called so."""

NAMES = ("label", "labels", "target", "targets", "y", "class", "classes", "category")


def find_labels(batch: Any, getter: LabelsGetter) -> Any:
    """The labels of a batch, the very object that stands in it.

    Raises:
        ValueError: If it cannot be told where they are.
    """
    if callable(getter):
        labels = getter(batch)
    elif getter is not None:
        labels = _at(batch, getter)
    else:
        labels = _default(batch)
    seen: list[Any] = []
    tree_map(seen.append, batch, is_leaf=lambda node: node is labels)
    if not any(one is labels for one in seen):
        raise ValueError(
            "labels_getter must return the labels as they stand in the batch, got another object: return batch[...] "
            "itself, and change labels in the data set."
        )
    return labels


def _at(batch: Any, where: str | int) -> Any:
    named = isinstance(where, str) and hasattr(batch, "_fields")
    try:
        return getattr(batch, str(where)) if named else batch[where]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(
            f"labels_getter={where!r} is not in the batch, {_described(batch)}: it is a key, a position, or a function "
            "of the batch."
        ) from None


def _default(batch: Any) -> Any:
    named = getattr(batch, "_fields", ())
    entries = (
        dict(batch) if isinstance(batch, Mapping) else dict(zip(named, batch, strict=True)) if named else {}
    )
    found = [name for name in entries if str(name).lower() in NAMES]
    if len(found) == 1:
        return entries[found[0]]
    if not isinstance(batch, Mapping) and isinstance(batch, tuple | list) and len(batch) == 2 and not found:
        return batch[1]
    raise ValueError(
        f"it cannot be told which part of the batch are the labels, {_described(batch)}: give labels_getter=, a key, "
        "a position (2 for samples of (index, x, y)), or a function of the batch."
    )


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a dict of {sorted(map(str, batch))}"
    if hasattr(batch, "_fields"):
        return f"a {type(batch).__name__} of {list(batch._fields)}"
    length = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    return f"a {type(batch).__name__}{length}"
