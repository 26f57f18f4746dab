"""Mix while batches are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from mixlayers import Method
from mixlayers_torch._mix import mix


class MixCollate:
    """A `collate_fn` that mixes: `DataLoader(data, collate_fn=MixCollate(CutMix(), num_classes=10))`.

    Batches come as `(x, soft_targets)`, with float32 targets of shape (N, num_classes) that
    `F.cross_entropy` takes as they are. Any batch size will do. Worker processes draw differently, and
    differently in each epoch, from the seed that the DataLoader gives them (`torch.manual_seed` decides it).

    Args:
        method: An input method, for example Mixup(0.2) or CutMix().
        num_classes: K.
        seed: The run's seed.
        rank: The process's number; give different ranks different numbers.
        smoothing: Label smoothing epsilon in [0, 1).
    """

    def __init__(
        self, method: Method, num_classes: int, *, seed: int = 0, rank: int = 0, smoothing: float = 0.0
    ) -> None:
        self.method, self.num_classes, self.seed, self.rank = method, num_classes, seed, rank
        self.smoothing = smoothing
        self._step = 0

    def __call__(self, samples: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Collate a list of (x, label) and mix it."""
        x, labels = default_collate(list(samples))
        mixed, target = mix(x, labels, self.method, step=self._step, seed=self._stream_seed(), rank=self.rank)
        self._step += 1
        return mixed, target.soft(self.num_classes, self.smoothing)

    def _stream_seed(self) -> int:
        worker = get_worker_info()
        if worker is None:
            return self.seed
        return int(np.random.SeedSequence([self.seed, worker.seed]).generate_state(1, np.uint64)[0])
