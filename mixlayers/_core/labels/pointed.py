"""Labels with a point for each part of what was mixed, as masks of pixels have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework
    from mixlayers._core.plan.plan import Shares


def pointed(y: Any, features: tuple[Framework, Shares, int] | None) -> tuple[int, ...] | None:
    """The shape of the first labels that have points, by the look of them; None: none have.

    Labels (N, ..., ...) with three axes and more do. Of (N, M) nobody can tell, M may be classes; they do where what
    was mixed has one axis of space, and that is M long, or they are class indices at M places.

    Args:
        y: A tensor, or a container of some; lists may have one item for each sample, and are passed over.
        features: Whose tensors they are, the mixed features' shares and shapes, and their channel axis.
    """
    for label in _tensors(y):
        shape = tuple(label.shape)
        if len(shape) > 2 or (len(shape) == 2 and shape[1] > 1 and features and _along(label, *features)):
            return shape
    return None


def _along(label: Any, framework: Framework, shares: Shares, channel_dim: int) -> bool:
    """Whether labels (N, M) lie along the one axis of space."""
    if len(shares) != 1 or len(shares[0][1]) != 3:
        return False
    length = shares[0][1][2 if channel_dim == 1 else 1]
    if label.shape[1] == length:
        return True
    whole = not framework.is_float(label) and not framework.is_bool(label)
    return whole and framework.checks(label) and bool((framework.to_numpy(label) > 1).any())


def _tensors(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, tuple):
        for value in tree:
            yield from _tensors(value)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from _tensors(getattr(tree, field.name))
    elif hasattr(tree, "ndim") and hasattr(tree, "shape"):
        yield tree
