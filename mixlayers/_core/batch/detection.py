"""Mixing of images with boxes: Mixup joins the boxes of both images, CutMix joins what is to be seen of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.batch.visible import Boxes, inside, outside, regions
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import paths, tree_map, tree_zip
from mixlayers._core.methods.cutmix import CutMix
from mixlayers._core.methods.method import Method
from mixlayers._core.methods.mixup import Mixup


class MixedBoxes(NamedTuple):
    """The boxes of one mixed image, with their labels and weights.

    Attributes:
        boxes: (M, 4), those of the image itself first.
        labels: What was given of each box, (M,) or a container of tensors with M rows.
        weights: float32 (M,), for the loss of each box. Of Mixup lam for the image's own, 1 - lam for its partner's;
            of CutMix 1, since what is left of a box is shown as it was.
    """

    boxes: Any
    labels: Any
    weights: Any


def mix_boxes(
    framework: Framework,
    images: Any,
    boxes: Sequence[Any],
    labels: Sequence[Any],
    method: Method,
    *,
    min_visible: float,
    step: int | None,
    seed: int,
    rank: int,
    channel_dim: int,
) -> tuple[Any, list[MixedBoxes]]:
    """The core of every backend's `mix_detection`."""
    for leaf in method.leaves:
        if not isinstance(leaf, Mixup | CutMix):
            raise ValueError(
                f"detection takes Mixup and CutMix, of which it is known what becomes of a box, got {leaf!r}."
            )
        if "label" in method.near or method.needs_classes:
            raise ValueError(
                f"an image of several boxes has no one label to pair by, got pairs={leaf.pairs!r}."
            )
    if not 0.0 <= min_visible <= 1.0:
        raise ValueError(f"min_visible is a share of a box's area in [0, 1], got {min_visible}.")
    _check(images, boxes, labels)
    nothing = framework.full(len(images), 0.0, images)  # the labels are the boxes
    mixed, target = mix_batch(
        framework,
        images,
        nothing,
        method,
        step=step,
        seed=seed,
        rank=rank,
        batch_dim=0,
        channel_dim=channel_dim,
    )
    every = [
        MixedBoxes(some, known, framework.full(len(some), 1.0, some))
        for some, known in zip(boxes, labels, strict=True)
    ]
    plan = target.plan
    if plan is None:
        return mixed, every
    pairs = [(every[i], every[j]) for i, j in enumerate(plan.perm.tolist())]
    if plan.masked:
        joined = _cut(framework, pairs, regions(images.shape, plan, channel_dim), min_visible)
    else:
        lams = np.broadcast_to(plan.lam, len(images)).tolist()
        joined = [
            _join(framework, own, theirs, lam, 1.0 - lam)
            for (own, theirs), lam in zip(pairs, lams, strict=True)
        ]
    return mixed, [
        own if own is theirs else both  # an image that is paired with itself shows nothing else
        for (own, theirs), both in zip(pairs, joined, strict=True)
    ]


def _check(images: Any, boxes: Sequence[Any], labels: Sequence[Any]) -> None:
    size = len(images)
    if not len(boxes) == len(labels) == size:
        raise ValueError(
            f"give the boxes and the labels of each image, got {size} images, boxes of {len(boxes)} and labels of "
            f"{len(labels)}."
        )
    for i, (some, known) in enumerate(zip(boxes, labels, strict=True)):
        shapes = [tuple(leaf.shape) for _, leaf in paths(known)]
        if some.ndim != 2 or some.shape[1] != 4 or any(shape[:1] != (some.shape[0],) for shape in shapes):
            raise ValueError(
                f"image {i} needs boxes (M, 4) and labels (M,), got {tuple(some.shape)} and "
                f"{', '.join(map(str, shapes))}."
            )
        first, own = ({path for path, _ in paths(each)} for each in (labels[0], known))
        if first != own:
            raise ValueError(
                f"image {i} has other labels than image 0, {_named(own)} and {_named(first)}: give each image the same "
                "entries, with no rows where it has no boxes."
            )


def _named(entries: Collection[tuple[Any, ...]]) -> str:
    return ", ".join(sorted(".".join(map(str, path)) or "a tensor" for path in entries)) or "none"


def _join(framework: Framework, own: MixedBoxes, theirs: MixedBoxes, lam: float, other: float) -> MixedBoxes:
    """The boxes of both images, with a weight for the own ones and another for the partner's."""
    weights = (framework.full(len(b), weight, b) for b, weight in ((own.boxes, lam), (theirs.boxes, other)))
    return MixedBoxes(
        framework.concatenate([own.boxes, theirs.boxes]),
        tree_zip(lambda one, two: framework.concatenate([one, two]), own.labels, theirs.labels),
        framework.concatenate(list(weights)),
    )


def _cut(
    framework: Framework,
    pairs: Sequence[tuple[MixedBoxes, MixedBoxes]],
    pasted: Sequence[Boxes],
    min_visible: float,
) -> list[MixedBoxes]:
    """What is to be seen of the boxes of both images, with a region of the one pasted over the other."""
    known = {id(own): framework.to_numpy(own.boxes) for own, _ in pairs}
    _check_edges(list(known.values()))
    joined = []
    for (own, theirs), region in zip(pairs, pasted, strict=True):
        left, within = outside(known[id(own)], region), inside(known[id(theirs)], region)
        shares = np.concatenate([left[1], within[1]])
        edges = np.concatenate([left[0], within[0]])
        both = _join(framework, own, theirs, 1.0, 1.0)
        joined.append(_seen(framework, both, edges, (shares > 0.0) & (shares >= min_visible)))
    return joined


def _check_edges(boxes: Sequence[Boxes]) -> None:
    every = np.concatenate(boxes)
    wrong = ~(every[:, 2:] >= every[:, :2]).all(1)  # nan too
    if len(every) and (wrong.any() or every.max() <= 1.0):
        raise ValueError(
            "CutMix cuts boxes (x1, y1, x2, y2) in pixels, x1 <= x2 and y1 <= y2, got for example "
            f"{every[wrong.argmax()].tolist()}: convert boxes of centres and sides, or relative to the image, first."
        )


def _seen(framework: Framework, both: MixedBoxes, edges: Boxes, seen: npt.NDArray[np.bool_]) -> MixedBoxes:
    """Those boxes that are seen, with their new edges; numbers that do not change stay as they are, to the last bit."""
    if not len(edges):
        return both
    old = framework.to_numpy(both.boxes)
    moved = framework.like(framework.share(edges.astype(np.float32), both.boxes), both.boxes)
    both = both._replace(boxes=framework.where(edges != old, moved, both.boxes))
    if seen.all():
        return both
    first = framework.partners(np.argsort(~seen, kind="stable"))  # those that are seen, in their order
    return MixedBoxes(*(tree_map(lambda rows: first.of(rows)[: seen.sum()], part) for part in both))
