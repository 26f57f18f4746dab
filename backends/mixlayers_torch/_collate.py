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
