"""Who mixes with whom: every policy returns a permutation, so each sample is a partner once."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Pairs = Literal["random", "derangement", "different_class", "same_class"]
Permutation = npt.NDArray[np.int64]


def draw_pairs(
    rng: np.random.Generator,
    size: int,
    pairs: Pairs = "random",
    labels: npt.NDArray[np.integer] | None = None,
    *,
    mutual: bool = False,
) -> Permutation:
    """Draw the partner of each sample.

    Args:
        rng: The step's stream.
        size: The batch size N, >= 1.
        pairs: "random": any permutation (one fixed point on average, as published). "derangement": nobody
            is their own partner (a batch of one aside). "different_class": no partner shares the label,
            as far as the labels allow it: if one class holds more than half of the batch, its surplus
            meets itself. "same_class": partners share the label.
        labels: Class indices, (N,), for the two class policies.
        mutual: Partners are each other's partner (perm is its own inverse); an odd one out keeps itself.

    Raises:
        ValueError: If a class policy gets no labels, or labels of another length.
    """
    if pairs in ("different_class", "same_class"):
        if labels is None:
            raise ValueError(
                f"pairs={pairs!r} needs the labels when the step is planned, got none: "
                "use model(x, target=labels) or `with mixer(labels):`."
            )
        if labels.shape != (size,):
            raise ValueError(f"labels must be class indices of shape ({size},), got shape {labels.shape}.")
        return _different_class(rng, labels) if pairs == "different_class" else _same_class(rng, labels)
    if mutual:
        return _mutual(rng, size)
    perm = rng.permutation(size)
    while pairs == "derangement" and size > 1 and (perm == np.arange(size)).any():
        perm = rng.permutation(size)
    return perm.astype(np.int64, copy=False)


def inverse(perm: Permutation) -> Permutation:
    """The inverse permutation: inverse(perm)[perm[i]] == i."""
    result = np.empty_like(perm)
    result[perm] = np.arange(len(perm))
    return result


def _mutual(rng: np.random.Generator, size: int) -> Permutation:
    order = rng.permutation(size)
    perm = np.arange(size, dtype=np.int64)
    even = size - size % 2
    perm[order[0:even:2]], perm[order[1:even:2]] = order[1:even:2], order[0:even:2]
    return perm


def _by_class(rng: np.random.Generator, labels: npt.NDArray[np.integer]) -> tuple[Permutation, Permutation]:
    """The samples class after class, both orders shuffled, and the sizes of the classes."""
    _, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank_of_class = rng.permutation(len(sizes))
    shuffled = rng.permutation(len(labels))
    order = shuffled[np.argsort(rank_of_class[of_class[shuffled]], kind="stable")]
    return order, sizes[np.argsort(rank_of_class)]


def _different_class(rng: np.random.Generator, labels: npt.NDArray[np.integer]) -> Permutation:
    """Turn the samples, sorted by class, by at least the largest class: everybody leaves their own."""
    order, sizes = _by_class(rng, labels)
    size, largest = len(labels), int(sizes.max())
    shift = int(rng.integers(largest, max(largest, size - largest) + 1))
    perm = np.empty(size, dtype=np.int64)
    perm[order] = np.roll(order, -shift)
    return perm


def _same_class(rng: np.random.Generator, labels: npt.NDArray[np.integer]) -> Permutation:
    order, sizes = _by_class(rng, labels)
    perm = np.empty(len(labels), dtype=np.int64)
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        perm[members] = rng.permutation(members)
    return perm
