"""Time the policies on a batch of 64 8-bit images of 224x224, beside torchvision's on PIL images.

    python benchmarks/augment.py [--quick]

Both do the very same operations, one image after another on one core, and take turns in one process; medians and
quartiles of the ratios are shown. Promised: RandAugment is not slower than torchvision's. Aimed at: mixing while a
batch is put together adds under 5 % to loading it (augmenting its images by RandAugment, and collating them). Where
torchvision is not installed (it is in .venv-vision, from `make test-vision`) only our own times are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from parts.report import main
from parts.timing import TINY, Row, Scale, Spread, interleave, ratio
from PIL import Image
from torch.utils.data import default_collate

from mixlayers import CutMix, Mixup
from mixlayers._core.augment.policy_tables import RAND_AUGMENT, SIGNED
from mixlayers.augment import Compose, Normalize, RandAugment, RandomHorizontalFlip, RandomResizedCrop, apply
from mixlayers.torch import MixCollate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rand_augment_rows(scale: Scale) -> list[Row]:
    """RandAugment alone: PIL to PIL, and array to array."""
    images = _images(scale)
    pictures = [Image.fromarray(image) for image in images]
    policy = RandAugment()

    def ours(batch: Sequence[Any]) -> list[Any]:
        return [policy(image, index=index) for index, image in enumerate(batch)]

    work: dict[str, Callable[[], object]] = {"PIL": lambda: ours(pictures), "uint8": lambda: ours(images)}
    theirs = _torchvision(images)
    if theirs is not None:
        same = zip(ours(pictures), theirs(pictures), strict=True)
        if not all(np.array_equal(np.array(one), np.array(other)) for one, other in same):
            raise RuntimeError("torchvision's pixels differ from ours: the times do not compare.")
        work |= {
            "torchvision PIL": lambda: theirs(pictures),
            "torchvision uint8": lambda: [np.array(x) for x in theirs([Image.fromarray(x) for x in images])],
        }
    return _rows("RandAugment", work, scale.rounds, limit=1.0)


def recipe_rows(scale: Scale) -> list[Row]:
    """The whole recipe but for erasing, from a PIL image to a normalised array."""
    images = _images(scale)
    side = len(images[0])
    pictures = [Image.fromarray(image) for image in images]
    ours = Compose([RandomResizedCrop(side), RandomHorizontalFlip(), RandAugment(), Normalize(MEAN, STD)])
    work: dict[str, Callable[[], object]] = {"PIL": lambda: [ours(image) for image in pictures]}
    return _rows("crop, flip, RandAugment, Normalize", work, scale.rounds)


def draw_rows(scale: Scale) -> list[Row]:
    """What drawing takes, and what doing the steps takes."""
    images = _images(scale)
    policy, size = RandAugment(), images[0].shape[:2]
    pictures = [Image.fromarray(image) for image in images]
    plans = [policy.plan(size, index=index) for index in range(len(images))]
    work: dict[str, Callable[[], object]] = {
        "draw": lambda: [policy.plan(size, index=index) for index in range(len(images))],
        "apply": lambda: [apply(image, steps) for image, steps in zip(pictures, plans, strict=True)],
    }
    return _rows("RandAugment's parts", work, scale.rounds)


def loader_rows(scale: Scale) -> list[Row]:
    """Loading a batch, 8-bit and normalised, with and without mixing by the collate function."""
    images = _images(scale)
    kinds = {
        "uint8": lambda image: torch.from_numpy(image.transpose(2, 0, 1).copy()),
        "float32": lambda image: torch.from_numpy(Normalize(MEAN, STD)(image)),
    }
    policy, rows = RandAugment(), []
    for kind, tensor in kinds.items():

        def load(collate: Callable[[list[Any]], object], tensor: Callable[..., Any] = tensor) -> object:
            return collate(
                [(tensor(policy(image, index=index)), index % 10) for index, image in enumerate(images)]
            )

        part = f"loading {kind}"
        work: dict[str, Callable[[], object]] = {
            "plain": lambda load=load: load(default_collate),
            "Mixup": lambda load=load: load(MixCollate(Mixup(), 10)),
            "CutMix": lambda load=load: load(MixCollate(CutMix(), 10)),
        }
        times = interleave(work, scale.rounds)
        rows.append(Row(part, "plain", "ms a batch", Spread.of([1000 * one for one in times["plain"]])))
        rows += [
            Row(part, name, "x plain", ratio(times[name], times["plain"]), limit=1.05)
            for name in ("Mixup", "CutMix")
        ]
    return rows


def _images(scale: Scale) -> list[np.ndarray]:
    count, side = (4, 16) if scale is TINY else (64, 224)
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def _rows(
    part: str, work: dict[str, Callable[[], object]], rounds: int, limit: float | None = None
) -> list[Row]:
    times = interleave(work, rounds)
    rows = []
    for name in (name for name in work if not name.startswith("torchvision")):
        rows.append(Row(part, name, "ms a batch", Spread.of([1000 * one for one in times[name]])))
        if f"torchvision {name}" in times:
            compared = ratio(times[name], times[f"torchvision {name}"])
            rows.append(Row(part, name, "x torchvision", compared, limit=limit if name == "PIL" else None))
    return rows


def _torchvision(images: Sequence[np.ndarray]) -> Callable[[Sequence[Any]], list[Any]] | None:
    """torchvision's RandAugment, which is made to draw what ours draws; None where it is not installed."""
    try:
        from torchvision.transforms import RandAugment as Theirs
    except ImportError:
        return None
    theirs, drawn = Theirs(), torch.randint
    plans = [RandAugment().plan(image.shape[:2], index=index) for index, image in enumerate(images)]
    told = [
        number
        for steps in plans
        for step in steps
        for number in (
            RAND_AUGMENT.index(step.name),
            *([int(step.magnitude < 0)] if step.name in SIGNED else []),
        )
    ]

    def run(batch: Sequence[Any]) -> list[Any]:
        numbers: Iterator[int] = iter(told)
        torch.randint = lambda *arguments: torch.tensor([next(numbers)])
        try:
            return [theirs(image) for image in batch]
        finally:
            torch.randint = drawn

    return run


PARTS = {"policy": rand_augment_rows, "recipe": recipe_rows, "draw": draw_rows, "loader": loader_rows}

if __name__ == "__main__":
    main(PARTS, ("numpy", "pillow", "torch", "torchvision"), torch.set_num_threads)
