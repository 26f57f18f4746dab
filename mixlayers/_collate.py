"""Mix while batches are put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._arrays import COLLATED
from mixlayers._batch import mix_batch
from mixlayers._framework import Framework
from mixlayers._method import Method


class BaseCollate(ABC):
    """What every backend's MixCollate does.

    Args:
        method: An input method, for example Mixup(0.2) or CutMix().
        num_classes: K.
        seed: The run's seed.
        rank: The process's number; give different ranks different numbers.
        smoothing: Label smoothing epsilon in [0, 1).
    """

    framework: Framework

    def __init__(
        self, method: Method, num_classes: int, *, seed: int = 0, rank: int = 0, smoothing: float = 0.0
    ) -> None:
        self.method, self.num_classes, self.seed, self.rank = method, num_classes, seed, rank
        self.smoothing = smoothing
        self._step = 0

    @abstractmethod
    def _collate(self, samples: list[Any]) -> tuple[Any, Any]:
        """Put (x, label) pairs together, as the framework does."""

    @abstractmethod
    def _worker(self) -> tuple[int, ...] | None:
        """What tells this worker and epoch from others; None in the main process."""

    def __call__(self, samples: Sequence[Any]) -> tuple[Any, Any]:
        """Collate a list of (x, label) and mix it."""
        x, labels = self._collate(list(samples))
        framework = self.framework
        # NumPy rounds bytes rightly, and pastes boxes in place
        if framework.is_tensor(x) and self._is_array(x):
            framework, x, labels = COLLATED, framework.to_numpy(x), framework.to_numpy(labels)
        mixed, target = mix_batch(
            framework,
            x,
            labels,
            self.method,
            step=self._step,
            seed=self._stream_seed(),
            rank=self.rank,
            batch_dim=0,
            channel_dim=1,
        )
        self._step += 1
        soft = target.soft(self.num_classes, self.smoothing)
        return (mixed, soft) if framework is self.framework else (self._tensor(mixed), self._tensor(soft))

    def _is_array(self, x: Any) -> bool:
        """Whether NumPy has the tensor's dtype."""
        return True

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        """The framework's tensor of an array."""
        return array

    def _stream_seed(self) -> int:
        worker = self._worker()
        if worker is None:
            return self.seed
        return int(np.random.SeedSequence([self.seed, *worker]).generate_state(1, np.uint64)[0])
