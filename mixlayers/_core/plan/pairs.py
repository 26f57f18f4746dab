"""Pair policies: each returns a permutation, so each sample is a partner once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import keep_plain
from mixlayers._core.plan.exchanges import Permutation, exchange_freely
from mixlayers._core.plan.groups import Across, Halves
from mixlayers._core.plan.near import exchange_near

Pairs = Literal["random", "derangement", "different_class", "same_class"]


@dataclass(frozen=True)
class Near:
    """Partners that are near each other in length or in label: `Mixup(2.0, pairs=Near("label", 0.5))`.

    Each sample is a partner once, and where values are dense (many samples within a bandwidth), a partner's
    distance is about Normal(0, bandwidth). Where they are sparse, partners are nearer or farther, as the batch has
    them: at the ends of the values, and across gaps, they must be. Values of one number are ordered twice, each
    time with noise, and equal ranks are matched. For labels of several numbers, permutations are drawn with
    probability ~ exp(-sum of squared distances / (2 bandwidth^2)), approximately, by Metropolis exchanges. By that
    law a sample whose neighbours are all several bandwidths away keeps itself, and the more numbers a label has, the
    more such samples there are; if they are more than half of a batch of 64 or more, a warning says so.

    "label" pairs as C-Mixup does (Yao et al., "C-Mixup: Improving Generalization in Regression", NeurIPS 2022),
    which however draws each partner on its own, with replacement, by a Gaussian kernel of that bandwidth (there
    over the whole training set too): some samples are then many others' partner, others nobody's.

    The values are read on the host in each mixed step: on a GPU that waits for the labels or the mask.

    Attributes:
        by: "length": real tokens; needs the padding mask (`mask=`). "label": regression targets (N,) or (N, D).
        bandwidth: Standard deviation of the distance, > 0, in tokens or in the label's unit.
    """

    by: Literal["length", "label"]
    bandwidth: float

    def __post_init__(self) -> None:
        keep_plain(self)
        if self.by not in ("length", "label"):
            raise ValueError(f"Near: by must be 'length' or 'label', got {self.by!r}.")
        if not 0.0 < self.bandwidth < float("inf"):
            raise ValueError(
                f"Near: bandwidth must be > 0 and finite, got {self.bandwidth}: it is how far partners may be "
                "apart, in the values' unit; for partners of any distance use pairs='random'."
            )


@dataclass(frozen=True)
class Apart:
    """Partners that are at least a distance apart in the batch, for batches in which neighbours belong together.

    `RepeatedAugmentationSampler` on one process puts the copies of an image next to each other: mixed by
    `Mixup(0.8, pairs=Apart(3))`, none of three copies meets another. Of a batch of fewer than 2 * distance samples
    those in the middle have no partner so far away, and keep to themselves. Random otherwise, though not quite uniform
    over all such permutations, the less the fewer there are: in a batch of hardly more than 2 * distance samples some
    partners come several times as often as others.

    Attributes:
        distance: Least distance of i and perm[i], >= 1; for the sampler its `repeats`.
    """

    distance: int

    def __post_init__(self) -> None:
        keep_plain(self)
        distance: object = self.distance
        if not isinstance(distance, int) or isinstance(distance, bool) or distance < 1:
            raise ValueError(
                f"Apart: distance must be a whole number of at least 1, got {distance!r}: for the copies of "
                "repeated augmentation it is their number."
            )


Policy = Pairs | Near | Apart | Halves | Across
"""What `pairs=` takes."""


def draw_pairs(
    rng: np.random.Generator,
    size: int,
    pairs: Policy = "random",
    labels: npt.NDArray[np.integer] | None = None,
    near: Mapping[str, npt.NDArray[Any]] | None = None,
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
            meets itself. "same_class": partners share the label. Or `Near`, `Apart`, `Halves`, `Across`.
        labels: Class indices, (N,), for the two class policies and `Across`.
        near: The values for `Near`, by its `by`, (N,) or (N, D); "domain" for `Across`, (N,).
        mutual: Partners are each other's partner (perm is its own inverse); an odd one out keeps itself.

    Raises:
        ValueError: If a policy gets no labels or values, or some of another length, or that are not finite.
    """
    if isinstance(pairs, Near):
        return _near(rng, size, pairs, None if near is None else near.get(pairs.by))
    if isinstance(pairs, Apart):
        return _apart(rng, size, pairs.distance)
    if isinstance(pairs, Halves):
        return pairs.draw(rng, size)
    if isinstance(pairs, Across):
        domains = None if near is None else near.get("domain")
        return _across(rng, pairs, *(_classes(size, pairs, values) for values in (labels, domains)))
    if pairs in ("different_class", "same_class"):
        labels = _classes(size, pairs, labels)
        return _different_class(rng, labels) if pairs == "different_class" else _same_class(rng, labels)
    if mutual:
        return _mutual(rng, size)
    perm = rng.permutation(size)
    while pairs == "derangement" and size > 1 and (perm == np.arange(size)).any():
        perm = rng.permutation(size)
    return perm.astype(np.int64, copy=False)


def _classes(size: int, pairs: Policy, labels: npt.NDArray[np.integer] | None) -> npt.NDArray[np.integer]:
    """Each sample's class or domain, if there is one."""
    if labels is None:
        target = '{"label": y, "domain": d}' if isinstance(pairs, Across) else "labels"
        raise ValueError(
            f"pairs={pairs!r} needs the labels when the step is planned, got none: "
            f"use model(x, target={target}) or `with mixer({target}):`."
        )
    if labels.shape != (size,):
        raise ValueError(f"labels must be class indices of shape ({size},), got shape {labels.shape}.")
    return labels


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
    """Turn the samples, sorted by class, by at least the largest class: everybody leaves their own. Then exchange."""
    order, sizes = _by_class(rng, labels)
    size, largest = len(labels), int(sizes.max())
    shift = int(rng.integers(largest, max(largest, size - largest) + 1))
    perm = np.empty(size, dtype=np.int64)
    perm[order] = np.roll(order, -shift)
    exchange_freely(rng, perm, labels, np.not_equal, np.arange(size))
    return perm


def _across(
    rng: np.random.Generator,
    pairs: Across,
    labels: npt.NDArray[np.integer],
    domains: npt.NDArray[np.integer],
) -> Permutation:
    alike, unlike = (labels, domains) if pairs.label == "same" else (domains, labels)
    perm = np.arange(len(labels), dtype=np.int64)
    for value in np.unique(alike):
        members = np.flatnonzero(alike == value)
        perm[members] = members[_different_class(rng, unlike[members])]
    for i in np.flatnonzero(
        unlike[perm] == unlike
    ).tolist():  # a surplus: whoever has i takes over its partner
        before = int(np.flatnonzero(perm == i)[0])
        perm[before], perm[i] = perm[i], i
    return perm


def _apart(rng: np.random.Generator, size: int, distance: int) -> Permutation:
    """A turn of the batch, or of its two ends, in which random partners then change places."""
    perm = np.arange(size, dtype=np.int64)
    if size >= 2 * distance:
        perm = np.roll(perm, -int(rng.integers(distance, size - distance + 1)))
    elif size > distance:
        perm[:-distance], perm[distance:] = perm[distance:].copy(), perm[:-distance].copy()
    own = np.arange(size)
    can = own[(own >= distance) | (own + distance < size)]
    exchange_freely(rng, perm, own, lambda i, p: np.abs(i - p) >= distance, can)
    return perm


def _near(rng: np.random.Generator, size: int, pairs: Near, values: npt.NDArray[Any] | None) -> Permutation:
    if values is None:
        raise ValueError(
            f"pairs={pairs!r} needs each sample's {pairs.by} when the step is planned, got none: "
            + (
                "use model(x, target=labels) or `with mixer(labels):`."
                if pairs.by == "label"
                else "wrap the model with mask=..., the name of its padding mask, or plan with near={'length': ...}."
            )
        )
    if values.ndim not in (1, 2) or len(values) != size or not np.isfinite(values).all():
        raise ValueError(
            f"pairs={pairs!r} needs finite values of shape ({size},) or ({size}, D), got shape {values.shape}"
            f"{'' if np.isfinite(values).all() else ' with nan or inf'}."
        )
    points = values.reshape(size, -1) / pairs.bandwidth
    if points.shape[1] > 1:
        return _worth_it(exchange_near(rng, points), pairs)
    perm = np.empty(size, dtype=np.int64)
    # the difference of two noises has the variance of one bandwidth
    first, second = (np.argsort(points[:, 0] + rng.normal(scale=0.5**0.5, size=size)) for _ in range(2))
    perm[first] = second
    return _worth_it(perm, pairs)


def _worth_it(perm: Permutation, pairs: Near) -> Permutation:
    """The partners; a warning where the law leaves most samples alone, though the step counts as mixed."""
    own = int((perm == np.arange(len(perm))).sum())
    if len(perm) >= 64 and 2 * own > len(perm):  # a small batch may well be so
        warnings.warn(
            f"{pairs!r} left {own} of {len(perm)} samples with themselves, unmixed: hardly any two are within a "
            "bandwidth of each other (the more numbers a label has, the farther apart its samples are). Raise the "
            "bandwidth, or pair by fewer numbers.",
            stacklevel=2,
        )
    return perm


def _same_class(rng: np.random.Generator, labels: npt.NDArray[np.integer]) -> Permutation:
    """Two random orders of the samples, each class after class: equal ranks are matched."""
    _, of_class = np.unique(labels, return_inverse=True)
    perm = np.empty(len(labels), dtype=np.int64)
    first, second = (rng.permutation(len(labels)) for _ in range(2))
    perm[first[np.argsort(of_class[first], kind="stable")]] = second[
        np.argsort(of_class[second], kind="stable")
    ]
    return perm
