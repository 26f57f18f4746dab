"""Mix while batches are put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from multiprocessing import current_process
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.checks import check_names
from mixlayers._core.documents import add_arguments
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.numpy_arrays import COLLATED, NUMPY
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.labels.labels import Labels, check_meaning
from mixlayers._core.labels.labels_getter import LabelsGetter, find_labels
from mixlayers._core.methods.method import Method
from mixlayers._core.plan.streams import worker_seed

_LABEL = object()
"""Stands where the labels were."""


def worker_process() -> tuple[int, ...] | None:
    """The number of this process among those that multiprocessing started; None in the main process."""
    return current_process()._identity or None


class BaseCollate(ABC):
    """The core of every backend's MixCollate.

    Args:
        method: An input method, for example Mixup(0.2) or CutMix().
        num_classes: How many classes there are, K.
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

    framework: Framework
    channel_dim = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        add_arguments(cls, BaseCollate)

    def __init__(
        self,
        method: Method,
        num_classes: int,
        *,
        seed: int = 0,
        rank: int = 0,
        smoothing: float = 0.0,
        labels_getter: LabelsGetter = None,
        labels: Labels = "auto",
        keep: Collection[str] = (),
    ) -> None:
        self.method, self.num_classes, self.seed, self.rank = method, num_classes, seed, rank
        check_meaning(labels)
        self.smoothing, self.labels_getter, self.labels = smoothing, labels_getter, labels
        self.keep = check_names("keep", keep)
        self._step = 0

    @abstractmethod
    def _collate(self, samples: list[Any]) -> Any:
        """Put samples together, as the framework does."""

    @abstractmethod
    def _worker(self) -> tuple[int, ...] | None:
        """A number of this worker and epoch that no other has; None in the main process."""

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Collate a list of (x, label), of dicts, named tuples or other samples, and mix it.

        Raises:
            ValueError: If it cannot be told where the labels are; if there is nothing to mix, or a class that there
                is not.
        """
        batch = self._collate(list(samples))
        if isinstance(batch, list):
            batch = tuple(batch)
        if type(batch) is tuple and samples and hasattr(samples[0], "_fields"):
            batch = type(samples[0])(*batch)
        labels = find_labels(batch, self.labels_getter)
        framework = self.framework
        tensors = [x for x in leaves(batch) if framework.is_tensor(x)]
        # NumPy rounds bytes rightly, and pastes boxes in place
        if tensors and all(self._is_array(x) for x in tensors):
            own, framework = framework, COLLATED
            hosted = {id(x): x if own is COLLATED else own.to_numpy(x) for x in tensors}
            batch = tree_map(lambda x: hosted.get(id(x), x), batch)
            labels = hosted.get(id(labels), labels)
        y = labels
        if not framework.is_tensor(y):
            raise ValueError(
                f"the labels of a batch are one array or tensor, got a {type(y).__name__} of its parts: give each "
                "sample its label as a number, or as an array, np.array(row); where there are several heads, say by "
                "labels_getter= which one is mixed, or mix in the step, mix(x, y, method)."
            )
        if framework is COLLATED and y.ndim and not y.size:
            raise ValueError("the batch has no sample.")

        def is_label(node: Any) -> bool:
            return node is labels

        without = tree_map(lambda x: _LABEL if is_label(x) else x, batch, is_leaf=is_label)
        mixed, target = mix_batch(
            framework,
            without,
            y,
            self.method,
            step=self._step,
            seed=self._stream_seed(),
            rank=self.rank,
            batch_dim=0,
            channel_dim=self.channel_dim,
            keep=self.keep,
        )
        self._step += 1
        soft = target.soft(self.num_classes, self.smoothing, self.labels)
        mixed = tree_map(lambda x: soft if x is _LABEL else x, mixed)
        if framework is self.framework:
            return mixed
        return tree_map(lambda x: self._tensor(x) if framework.is_tensor(x) else x, mixed)

    def _is_array(self, x: Any) -> bool:
        """Whether NumPy has the tensor's dtype."""
        return True

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        """The framework's tensor of an array."""
        return array

    def _stream_seed(self) -> int:
        return worker_seed(self.seed, self._worker())


class ArrayCollate(BaseCollate):
    """Puts samples of NumPy arrays together, for frameworks that take NumPy's."""

    framework: Framework = NUMPY

    def _collate(self, samples: list[Any]) -> Any:
        return _stacked(samples)

    def _worker(self) -> tuple[int, ...] | None:
        return worker_process()


def check_alike(samples: Sequence[Any]) -> None:
    """Raise if samples, which are put together part by part, have other parts than the first one.

    Raises:
        ValueError: If their lengths or their keys differ.
    """
    first = samples[0] if samples else None
    if isinstance(first, dict | tuple | list):
        for at, sample in enumerate(samples):
            same = sample.keys() == first.keys() if isinstance(first, dict) else len(sample) == len(first)
            if not same:
                raise ValueError(
                    f"sample {at} of the batch has other parts than sample 0, {_parts(sample)} and {_parts(first)}: "
                    "give all samples the same; what differs in length, pad, or leave out of the batch."
                )


def _parts(sample: Any) -> str:
    return ", ".join(map(str, sample)) if isinstance(sample, dict) else str(len(sample))


def _stacked(samples: list[Any]) -> Any:
    first = samples[0]
    check_alike(samples)
    if isinstance(first, dict):
        return {key: _stacked([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_stacked([sample[at] for sample in samples]) for at in range(len(first)))
    return np.stack([np.asarray(sample) for sample in samples])
