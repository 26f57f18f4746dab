"""The parts of the race before a model: mixing in the loader, and the import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from parts.timing import TINY, Row, Scale, Spread, interleave, ratio
from peers.operations import compared
from torch.utils.data import default_collate

from mixlayers import CutMix, Mixup
from mixlayers.torch import MixCollate

ROOT = Path(__file__).parents[2]
COLLATE_LIMIT = 1.05


def loader_rows(scale: Scale) -> list[Row]:
    """Mixing while a batch is put together, over putting it together, and over making it of images as well."""
    from PIL import Image

    from mixlayers.augment import Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop

    count, side = (4, 16) if scale is TINY else (64, 224)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(one) for one in rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)]
    recipe = Compose([RandomResizedCrop(side), RandomHorizontalFlip(), Normalize((0.5,) * 3, (0.25,) * 3)])
    samples = [(torch.rand(3, side, side), label) for label in range(count)]
    collates = {"Mixup": MixCollate(Mixup(), 1000), "CutMix": MixCollate(CutMix(), 1000)}
    if find_spec("torchvision") is not None:
        from torchvision.transforms import v2

        for name, mixing in {
            "Mixup": v2.MixUp(num_classes=1000),
            "CutMix": v2.CutMix(num_classes=1000),
        }.items():
            collates[f"torchvision {name}"] = lambda batch, mixing=mixing: mixing(*default_collate(batch))
    rows = []
    for what, make in {
        "stacking": lambda: samples,
        "crop, flip, normalise and stacking": lambda: [
            (torch.from_numpy(np.asarray(recipe(one))), label) for label, one in enumerate(pictures)
        ],
    }.items():
        work: dict[str, Callable[[], object]] = {"plain": lambda make=make: default_collate(make())}
        for name, collate in collates.items():
            work[name] = lambda make=make, collate=collate: collate(make())
        times = interleave(work, scale.rounds)
        for op in ("Mixup", "CutMix"):
            theirs = times.get(f"torchvision {op}")
            rivals = {} if theirs is None else {"torchvision": ratio(theirs, times["plain"])}
            against = ratio(times[op], times["plain"])
            name = f"{op}, {count}x3x{side}x{side}: {what}"
            rows.append(Row("loader", name, "x without mixing", against, rivals, COLLATE_LIMIT))
    return rows


def paddle_rows(scale: Scale) -> list[Row]:
    """Loader-side mixing for PaddlePaddle, ours and PaddleClas's operator, from samples to tensors."""
    if find_spec("paddle") is None:
        return []
    from paddle.io.dataloader.collate import default_collate_fn
    from peers.own import batch_operator

    from mixlayers.paddle import MixCollate as Ours

    count, side = (4, 16) if scale is TINY else (64, 224)
    samples = [(np.random.default_rng(n).random((3, side, side), dtype=np.float32), n) for n in range(count)]
    rows = []
    for op, method, theirs in [("Mixup", Mixup(), "MixupOperator"), ("CutMix", CutMix(), "CutmixOperator")]:
        collate = Ours(method, 1000)
        work: dict[str, Callable[[], object]] = {"ours": lambda collate=collate: collate(samples)}
        try:
            mixing = batch_operator(theirs, 1000, alpha=1.0)
            work["PaddleClas"] = lambda mixing=mixing: default_collate_fn(mixing(samples))
        except ImportError:
            pass
        times = interleave(work, scale.rounds)
        rows.append(
            compared(
                "PaddlePaddle loader", f"{op}, {count}x3x{side}x{side}", times, "ms; rivals: x ours", 1e3
            )
        )
    return rows


def import_rows(scale: Scale) -> list[Row]:
    """The wall clock of a new Python process that imports one thing."""
    names = ["mixlayers", "mixlayers.torch", "numpy", "torch"]
    for package, module in {
        "timm": "timm.data",
        "torchvision": "torchvision.transforms.v2",
        "kornia": "kornia.augmentation",
        "keras": "keras",
        "mixup": "mixup",
    }.items():
        if find_spec(package) is not None:
            names.append(module)
    work = {name: lambda name=name: _import(name) for name in (names[:1] if scale is TINY else names)}
    times = interleave(work, 2 if scale is TINY else max(3, scale.rounds // 3))
    return [
        Row(
            "import",
            name,
            "s; rivals: x ours",
            Spread.of(times[name]),
            {
                other: ratio(taken, times[name])
                for other, taken in times.items()
                if other not in names[:2] and (other == "numpy") == (name == "mixlayers")
            },
        )
        for name in names[:2]
        if name in times
    ]


def _import(name: str) -> float:
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", f"import {name}"], check=True, env=environment)
    return time.perf_counter() - start
