"""Each image several times in an epoch."""

from __future__ import annotations

import paddle
from paddle.io import Sampler

from mixlayers._core.batch.sampler import BaseSampler
from mixlayers_paddle._framework import PADDLE


class RepeatedAugmentationSampler(BaseSampler, Sampler):
    """Repeated augmentation (Berman et al., arXiv:1902.05509): `BatchSampler(sampler=..., batch_size=64)`.

    Each image comes `repeats` times, augmented anew by the data set each time, and an epoch stays as long as one
    over the data set. An iteration is an epoch: each has its own order, a pure function of (seed, epoch).
    `set_epoch` chooses the next one, on resuming for example; all processes must be in the same.

    In one process the copies are neighbours in a batch: mix with `pairs=Apart(repeats)`, which pairs no image
    with itself.
    """

    def _processes(self) -> tuple[int, int]:
        return PADDLE.rank(), paddle.distributed.get_world_size()
