"""Repeated augmentation: the order in which a process sees each image several times in an epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sized
from functools import partial
from types import FrameType

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import check_integer
from mixlayers._core.documents import add_arguments
from mixlayers._core.plan.streams import ORDER, stream

_DEALERS = ("BatchSamplerShard", "DistributedSamplerWrapper", "UnrepeatedDistributedSamplerWrapper")
"""Who deals a sampler's indices to the processes: of accelerate (and the Trainer of transformers), and of Lightning."""


def repeat_order(
    order: npt.NDArray[np.int64],
    *,
    repeats: int = 3,
    rank: int = 0,
    world: int = 1,
    round_to: int | None = None,
) -> npt.NDArray[np.int64]:
    """One process's indices when each index of an epoch's order comes several times in a row.

    The repeated order is dealt to the processes in turn, so that with `world` >= `repeats` each copy goes to
    another process; an epoch is still as long as one over the data set, and so sees about a `repeats`-th of it
    (Berman et al., arXiv:1902.05509; Hoffer et al., CVPR 2020; DeiT's recipe has 3 repeats).

    Args:
        order: The epoch's order of the data set, int64 (N,), the same in every process.
        repeats: How often each index comes, >= 1.
        rank, world: The process's number, and how many there are.
        round_to: None: ceil(N / world) indices a process. DeiT and timm have 256: N is first rounded down to a
            multiple of it, and floored to a process.

    Raises:
        ValueError: If an argument is out of its range, or `round_to` leaves no index.
    """
    size = len(order)
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}: 1 is an ordinary epoch.")
    repeats = check_integer("repeats", repeats, 1, 2**31 - 1)
    if round_to is not None:
        round_to = check_integer(
            "round_to", round_to, 1, 2**62, "None rounds nothing; DeiT and timm have 256."
        )
    if not 0 <= rank < world:
        raise ValueError(f"rank must be in [0, world), got rank {rank} of world {world}.")
    if size < 1:
        raise ValueError("the data set is empty: an epoch needs one sample at least.")
    length = -(-size // world) if round_to is None else size // round_to * round_to // world
    if not length:
        raise ValueError(
            f"round_to={round_to} leaves none of {size} samples for each of {world} processes: use round_to=None."
        )
    dealt = np.arange(length) * world + rank
    return order[dealt % (size * repeats) // repeats]


class BaseSampler:
    """What every backend's RepeatedAugmentationSampler does.

    Args:
        dataset: Anything that has a length N.
        repeats: How often each image comes, >= 1.
        num_replicas, rank: How many processes there are, and which this is; None: the framework's own (of
            torch.distributed or paddle.distributed; in Chainer one process: give the communicator's size and rank).
        shuffle: Whether each epoch has an order of its own.
        seed: Equal in all processes.
        round_to: None: ceil(N / num_replicas) indices a process. 256: floor(N // 256 * 256 / num_replicas), as in
            DeiT and timm.

    Raises:
        ValueError: If an argument is out of its range, or `round_to` leaves no index.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        add_arguments(cls, BaseSampler)

    def __init__(
        self,
        dataset: Sized,
        repeats: int = 3,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        round_to: int | None = None,
    ) -> None:
        own, world = self._processes()
        self.size, self.shuffle, self.seed, self.epoch = len(dataset), shuffle, seed, 0
        self._deal = partial(
            repeat_order,
            repeats=repeats,
            rank=own if rank is None else rank,
            world=world if num_replicas is None else num_replicas,
            round_to=round_to,
        )
        self._length = len(self._of_epoch(0))
        # what a DistributedSampler shows
        self.num_replicas, self.rank = self._deal.keywords["world"], self._deal.keywords["rank"]
        self.num_samples, self.total_size = self._length, self._length * self.num_replicas
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch; the ones after it follow."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.num_replicas > 1:
            self._check_not_dealt_again()
        return iter(self._next().tolist())

    def _check_not_dealt_again(self) -> None:
        """Raise if a trainer deals the indices to the processes, that are this one's already, once more."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            kind = type(frame.f_locals.get("self")).__name__ if "self" in frame.f_locals else ""
            if kind in _DEALERS:
                raise ValueError(
                    f"RepeatedAugmentationSampler deals its indices to {self.num_replicas} processes by itself, and "
                    f"{kind} would deal them once more, 1 / {self.num_replicas} of an epoch: make the sampler with "
                    "num_replicas=1, rank=0; or leave the loader out of accelerator.prepare, and give Lightning's "
                    "Trainer use_distributed_sampler=False."
                )
            frame = frame.f_back

    def __len__(self) -> int:
        return self._length

    def _processes(self) -> tuple[int, int]:
        """This process's number, and how many there are."""
        return 0, 1

    def _next(self) -> npt.NDArray[np.int64]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._of_epoch(epoch)

    def _of_epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """The indices of an epoch: a pure function of (seed, epoch)."""
        order = np.arange(self.size, dtype=np.int64)
        if self.shuffle:
            order = stream(self.seed, 0, epoch, ORDER).permutation(order)
        return self._deal(order)
