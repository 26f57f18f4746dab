"""Mixup of images with boxes: the boxes of both, each with its image's share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.framework.framework import Framework
from mixlayers._core.methods.method import Method
from mixlayers._core.methods.mixup import Mixup


class MixedBoxes(NamedTuple):
    """The boxes of one mixed image, with their labels and weights.

    Attributes:
        boxes: (M, 4), those of the image itself first.
        labels: (M,), their classes.
        weights: float32 (M,), for the loss of each box: lam for the image's own, 1 - lam for its partner's.
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
    step: int | None,
    seed: int,
    rank: int,
) -> tuple[Any, list[MixedBoxes]]:
    """The core of every backend's `mix_detection`."""
    for leaf in method.leaves:
        if not isinstance(leaf, Mixup):
            raise ValueError(
                f"a box that is cut is another box, so detection takes Mixup alone, got {leaf!r}: use Mixup(1.5)."
            )
        if "label" in method.near or method.needs_classes:
            raise ValueError(
                f"an image of several boxes has no one label to pair by, got pairs={leaf.pairs!r}."
            )
    size = len(images)
    if not len(boxes) == len(labels) == size:
        raise ValueError(
            f"give the boxes and the labels of each image, got {size} images, boxes of {len(boxes)} and labels of "
            f"{len(labels)}."
        )
    for i, (some, classes) in enumerate(zip(boxes, labels, strict=True)):
        if some.ndim != 2 or some.shape[1] != 4 or tuple(classes.shape) != (some.shape[0],):
            raise ValueError(
                f"image {i} needs boxes (M, 4) and labels (M,), got {tuple(some.shape)} and {tuple(classes.shape)}."
            )
    nothing = framework.full(size, 0.0, images)  # the labels are the boxes
    mixed, target = mix_batch(
        framework, images, nothing, method, step=step, seed=seed, rank=rank, batch_dim=0, channel_dim=1
    )
    plan = target.plan
    if plan is None:
        return mixed, [
            MixedBoxes(some, classes, framework.full(len(some), 1.0, some))
            for some, classes in zip(boxes, labels, strict=True)
        ]
    lams = np.broadcast_to(plan.lam, size).tolist()
    return mixed, [
        MixedBoxes(boxes[i], labels[i], framework.full(len(boxes[i]), 1.0, boxes[i]))  # it shows nothing else
        if i == j
        else MixedBoxes(
            framework.concatenate([boxes[i], boxes[j]]),
            framework.concatenate([labels[i], labels[j]]),
            framework.concatenate(
                [
                    framework.full(len(boxes[i]), lams[i], boxes[i]),
                    framework.full(len(boxes[j]), 1.0 - lams[i], boxes[j]),
                ]
            ),
        )
        for i, j in enumerate(plan.perm.tolist())
    ]
