"""Mix images with boxes."""

from __future__ import annotations

from collections.abc import Sequence

from jax import Array

from mixlayers import Method
from mixlayers._core.batch.detection import MixedBoxes, mix_boxes
from mixlayers_jax._framework import JAX


def mix_detection(
    images: Array,
    boxes: Sequence[Array],
    labels: Sequence[Array],
    method: Method,
    *,
    step: int | None = None,
    seed: int = 0,
    rank: int = 0,
) -> tuple[Array, list[MixedBoxes]]:
    """Mixup of images with boxes: each image keeps its own boxes and gets its partner's.

    As in YOLOX (arXiv:2107.08430), which shows both images at 0.5 and gives all boxes a weight of 1; here each box
    has its image's share as weight, for losses that take one (Zhang et al., arXiv:1902.04103).

    Args:
        images: (N, H, W, C), of floats.
        boxes: For each image (M, 4); an image without boxes has (0, 4).
        labels: For each image (M,).
        method: A Mixup, or OneOf several: CutMix and PatchUp would cut boxes.
        step: The step's number, for exact replay and resume. None: this process's next one, from 0.
        seed: The run's seed.
        rank: The process's number; equal ranks draw equal plans.

    Returns:
        The mixed images, and for each of them `(boxes, labels, weights)`.

    Raises:
        ValueError: If the method cuts, or boxes and labels do not fit together.
    """
    return mix_boxes(JAX, images, boxes, labels, method, step=step, seed=seed, rank=rank)
