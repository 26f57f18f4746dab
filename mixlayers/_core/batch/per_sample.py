"""Lists with one item for each sample, as detection has them; and entries of an input that are no features."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mixlayers._core.framework.tree import leaves

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework

_NO_FEATURE = re.compile(
    r"(^|_)(shape|size|scale|factor|ratio|ids?|idx|index|lengths?|hw)(_|$)", re.IGNORECASE
)
"""Names of numbers that describe a sample, such as PaddleDetection's im_shape and scale_factor."""

_NUMBER = (bool, int, float, np.generic)
_PLAIN = (str, bytes, type(None), *_NUMBER)


def is_per_sample(framework: Framework, tree: Any, size: int) -> bool:
    """Whether labels are a list of one item a sample, such as a dict of boxes.

    Raises:
        ValueError: If they may also be the labels of several heads; if they are containers, of another number.
    """
    if not isinstance(tree, list) or all(isinstance(x, _PLAIN) for x in leaves(tree)):
        return False
    items = [item for item in tree if not isinstance(item, _PLAIN)]
    containers = not all(map(framework.is_tensor, items))
    # no heads either: in a batch of as many samples they could be both
    if containers and len(tree) != size:
        raise ValueError(
            f"a list of containers as the target has one for each sample, got {len(tree)} for {size} samples: give one "
            "for each, or pass a tuple of the labels of several heads."
        )
    if len(tree) != size:
        return False
    if not containers and all(y.ndim and len(y) == size for y in items):
        _refuse(size, "labels", "stack them, or pass a tuple of the labels of several heads")
    return True


def check_no_numbers(framework: Framework, tree: Any, size: int) -> None:
    """Raise if labels are numbers, one a sample, in a container that is walked past: they would keep their own places.

    Raises:
        ValueError: If it is a list, tuple or array of as many numbers as there are samples.
    """
    listed = isinstance(tree, list | tuple) and not hasattr(tree, "_fields")
    array = isinstance(tree, np.ndarray) and not framework.is_tensor(tree) and tree.ndim > 0
    numbers = array or (listed and all(isinstance(x, _NUMBER) for x in tree))
    if numbers and len(tree) == size > 1:
        raise ValueError(
            f"the target holds {size} numbers, one for each sample, in a {type(tree).__name__}, which is not mixed: "
            "make it a tensor."
        )


def check_no_samples(framework: Framework, inputs: Any, batch_dim: int) -> None:
    """Raise if an input is a list of tensors that may be one for each sample: its rows would be mixed.

    Raises:
        ValueError: If it has as many tensors as they have rows.
    """
    for node in _lists(inputs):
        if len(node) > 1 and all(map(framework.is_tensor, node)):
            rows = {x.shape[batch_dim] if x.ndim > batch_dim else None for x in node}
            if rows == {len(node)}:
                _refuse(len(node), "inputs", "stack the samples, or pass a tuple of several inputs")


def _refuse(size: int, what: str, way_out: str) -> None:
    raise ValueError(
        f"a list of {size} {what} of {size} rows each may have one for each sample, or be several for the whole "
        f"batch: {way_out}."
    )


def _lists(tree: Any) -> Iterator[list[Any]]:
    """The lists in containers."""
    if isinstance(tree, list):
        yield tree
    if isinstance(tree, tuple | list):
        for item in tree:
            yield from _lists(item)
    elif isinstance(tree, MutableMapping):
        for value in tree.values():
            yield from _lists(value)


def warn_of_no_features(framework: Framework, inputs: Any, keep: Collection[str], size: int) -> None:
    """Warn if a floating-point entry that is about to be mixed has the name of no feature, beside larger ones."""
    for node in _mappings(inputs):
        mixed = {
            str(key): x
            for key, x in node.items()
            if framework.is_tensor(x)
            and key not in keep
            and framework.is_float(x)
            and x.ndim
            and len(x) == size
        }
        largest = max((x.ndim for x in mixed.values()), default=0)
        for name, x in mixed.items():
            if x.ndim < 3 <= largest and _NO_FEATURE.search(name):
                warnings.warn(
                    f"the input's entry {name!r}, {tuple(x.shape)}, is mixed like a feature: name it if it is none, "
                    f"keep=[{name!r}], or rename it.",
                    stacklevel=2,
                )


def _mappings(tree: Any) -> Iterator[MutableMapping[Any, Any]]:
    """The dicts in containers."""
    if isinstance(tree, MutableMapping):
        yield tree
        for value in tree.values():
            yield from _mappings(value)
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from _mappings(item)
