"""Mix while batches are put together."""

from __future__ import annotations

from typing import Any

import numpy as np
from paddle import Tensor
from paddle.io import get_worker_info
from paddle.io.dataloader.collate import default_collate_fn

from mixlayers._core.batch.collate import BaseCollate
from mixlayers._core.framework.numpy_arrays import COLLATED
from mixlayers._core.framework.tree import tree_map


class MixCollate(BaseCollate):
    """A `collate_fn` that mixes: `DataLoader(data, collate_fn=MixCollate(CutMix(), num_classes=10))`.

    Batches of (x, label) come as `(x, soft_targets)`, NumPy arrays of which the DataLoader makes tensors, with float32
    targets of shape (N, num_classes) for `nn.CrossEntropyLoss(soft_label=True)`. Any batch size will do. Samples may
    be tensors, in workers too: they leave as arrays, which a worker sends whole (it may free a tensor before that).
    uint8 images are blended in float32 and rounded to the nearest; other integers are refused. Worker
    processes draw differently, and differently in each epoch, from the seed that the DataLoader gives them
    (`numpy.random.seed` decides it).
    """

    framework = COLLATED  # Paddle's own operators can hang in a worker that was forked after they ran

    def _collate(self, samples: list[Any]) -> Any:
        return tree_map(_array, default_collate_fn(tree_map(_array, samples)))

    def _worker(self) -> tuple[int, ...] | None:
        worker = get_worker_info()
        return None if worker is None else (worker.seed, worker.id)


def _array(x: Any) -> Any:
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x) if isinstance(x, int | float) else x
