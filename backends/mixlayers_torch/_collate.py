"""Mix while batches are put together."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from mixlayers._core.batch.collate import BaseCollate
from mixlayers_torch._framework import TORCH


class MixCollate(BaseCollate):
    """A `collate_fn` that mixes: `DataLoader(data, collate_fn=MixCollate(CutMix(), num_classes=10))`.

    Batches of (x, label) come as `(x, soft_targets)`, with float32 targets of shape (N, num_classes) that
    `F.cross_entropy` takes as they are; of other samples (dicts, named tuples, (index, x, y)) they keep their form. Any
    batch size will do. uint8 images are blended in float32 and rounded to the nearest; other integers are refused.
    Worker processes draw differently, and differently in each epoch, from the seed that the DataLoader gives them
    (`torch.manual_seed` decides it).

    Args:
        method: An input method, for example Mixup(0.2) or CutMix().
        num_classes: K.
        seed: The run's seed.
        rank: The process's number; give different ranks different numbers.
        smoothing: Label smoothing epsilon in [0, 1).
        labels_getter: Where the labels are in a collated batch: a key ("label"), a position (2 for samples of
            (index, x, y)), or, as torchvision's, a function of the batch. None: the second of (x, y), or the one
            entry of a dict or named tuple that is called label, labels, target, targets, y, class, classes or
            category.
        labels: What whole-number labels are: class "indices", or "rows" of 0 and 1 for each class. "auto": rows where
            they are bool, or have num_classes > 1 columns; else indices.
        keep: Names of floating-point entries of a dict that are no features and stay as they are, such as an image's
            scale.
    """

    framework = TORCH

    def _collate(self, samples: list[Any]) -> Any:
        return default_collate(samples)

    def _is_array(self, x: Tensor) -> bool:
        return x.dtype is not torch.bfloat16

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array)

    def _worker(self) -> tuple[int, ...] | None:
        worker = get_worker_info()
        return None if worker is None else (worker.seed,)
