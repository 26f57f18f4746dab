"""Each image several times in an epoch."""

from __future__ import annotations

import torch
from torch.utils.data import DistributedSampler

from mixlayers._core.batch.sampler import BaseSampler
from mixlayers_torch._framework import TORCH


class RepeatedAugmentationSampler(BaseSampler, DistributedSampler[int]):
    """Repeated augmentation (Berman et al., arXiv:1902.05509): `DataLoader(data, sampler=...)`.

    Each image comes `repeats` times, augmented anew by the data set each time, and an epoch stays as long as one
    over the data set. An iteration is an epoch: each has its own order, a pure function of (seed, epoch).
    `set_epoch` chooses the next one, on resuming for example; all processes must be in the same.

    It is a DistributedSampler, which Lightning leaves as it is. accelerate (and with it the Trainer of transformers)
    deals the batches of any loader that it prepares once more: there make it with num_replicas=1, rank=0; else it
    raises.

    In one process the copies are neighbours in a batch: mix with `pairs=Apart(repeats)`, which pairs no image
    with itself.
    """

    def _processes(self) -> tuple[int, int]:
        ready = torch.distributed.is_available() and torch.distributed.is_initialized()
        return TORCH.rank(), torch.distributed.get_world_size() if ready else 1
