"""Each image several times in an epoch."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from chainer.iterators import OrderSampler

from mixlayers._core.batch.sampler import BaseSampler

_EPOCHS: Final = 10_000
"""How far to look for the epoch of a snapshot's order."""


class RepeatedAugmentationSampler(BaseSampler, OrderSampler):
    """Repeated augmentation (Berman et al., arXiv:1902.05509): `SerialIterator(data, 64, order_sampler=...)`.

    Each image comes `repeats` times, augmented anew by the data set each time, and an epoch stays as long as one
    over the data set. Each epoch has its own order, a pure function of (seed, epoch). An iterator that was resumed
    from a snapshot goes on with the epoch after the snapshot's.

    In one process the copies are neighbours in a batch: mix with `pairs=Apart(repeats)`, which pairs no image
    with itself.
    """

    def __call__(self, current_order: npt.NDArray[Any], current_position: int) -> npt.NDArray[np.int64]:
        """The next epoch's order; the iterator calls it.

        Raises:
            ValueError: If the current order, a snapshot's, is of no epoch of this sampler.
        """
        if self.shuffle and not self._follows(current_order):
            self.epoch = self._epoch_after(current_order)
        return self._next()

    def _follows(self, order: npt.NDArray[Any]) -> bool:
        """Whether the order is what an iterator has that was not resumed: none yet, or the last epoch's."""
        if np.array_equal(order, np.arange(len(order))):
            return True
        return self.epoch > 0 and np.array_equal(order, self._of_epoch(self.epoch - 1))

    def _epoch_after(self, order: npt.NDArray[Any]) -> int:
        for epoch in range(_EPOCHS):
            if np.array_equal(order, self._of_epoch(epoch)):
                return epoch + 1
        raise ValueError(
            "the iterator's order is of no epoch of this sampler: resume with the same data set, seed, repeats, "
            "processes and round_to, or call set_epoch and begin the iterator afresh."
        )
