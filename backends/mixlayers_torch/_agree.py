"""Processes that run a model together come to the same verdict, and run the same forwards on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mixlayers._core.errors import refuse
from mixlayers_torch._framework import TORCH


def largest_over_processes(model: nn.Module, *, groups: Iterable[Any]) -> Callable[[float], float]:
    """The largest of a number over all processes that run the model together; else the number.

    Other processes, that run other models, are not waited for.

    Args:
        model: The model, for its device.
        groups: Of processes that were seen to take part in a forward together.
    """
    distributed = torch.distributed
    if not several():
        return float
    found = list(groups)
    container = _group_of_container()
    if container is not None and container not in found:
        found.append(container)
    found = [group for group in found if distributed.get_world_size(group) > 1]
    if not found:
        return float
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def largest(number: float) -> float:
        shared = torch.tensor([number], dtype=torch.float64, device=device)
        for group in found:
            distributed.all_reduce(shared, op=distributed.ReduceOp.MAX, group=group)
        return shared.item()

    return largest


def check_rank(model: nn.Module, *, given: bool) -> None:
    """Raise where processes share a batch, each with a part of the layers, and would draw different plans for it.

    Args:
        model: The model.
        given: Whether the user said what the rank is.

    Raises:
        MixingError: If the model is tensor parallel, and no rank was given.
    """
    if (
        given
        or not several()
        or not any("_distribute_module_applied" in vars(layer) for layer in model.modules())
    ):
        return
    refuse(
        "the model is split over processes by tensor parallelism, so that they compute one batch together, and without "
        f"rank= each mixes it by a plan of its own, this one by rank {TORCH.rank()}'s",
        'give equal ranks to the processes that share a batch: wrap(model, rank=mesh["dp"].get_local_rank()), or '
        "rank=0 where all do",
    )


def several() -> bool:
    """Whether there are several processes."""
    distributed = torch.distributed
    ready = distributed.is_available() and distributed.is_initialized()
    return ready and distributed.get_world_size() > 1


def _group_of_container() -> Any:
    """The processes of a container that each of them calls; of DistributedDataParallel not where one may run alone.

    FullyShardedDataParallel (FSDP1) gathers the weights before the model runs, which then communicates no more.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp.fully_sharded_data_parallel")
    sharding = None if fsdp is None else fsdp.FullyShardedDataParallel.forward.__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is DistributedDataParallel.forward.__code__:
            container = frame.f_locals["self"]
            if container._join_config.enable:  # some ranks have run out of data
                return None
            return container.process_group
        if frame.f_code is sharding:
            return frame.f_locals["self"].process_group
        frame = frame.f_back
    return None
