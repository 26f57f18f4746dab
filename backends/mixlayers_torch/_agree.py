"""Processes that run a model together come to the same verdict, and run the same forwards on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def largest_over_processes(model: nn.Module, *, communicates: bool) -> Callable[[float], float]:
    """The largest of a number over all processes, if they run the model together; else the number.

    Args:
        model: The model, for its device.
        communicates: Whether they were seen to take part in a forward together.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return float
    if not communicates and not _inside_container():
        return float
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def largest(number: float) -> float:
        shared = torch.tensor([number], dtype=torch.float64, device=device)
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return shared.item()

    return largest


def _inside_container() -> bool:
    """Whether a container that every rank calls runs the model; of DistributedDataParallel not one that may run alone.

    FullyShardedDataParallel (FSDP1) gathers the weights before the model runs, which then communicates no more.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp.fully_sharded_data_parallel")
    sharding = None if fsdp is None else fsdp.FullyShardedDataParallel.forward.__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is DistributedDataParallel.forward.__code__:
            return not frame.f_locals["self"]._join_config.enable  # else some ranks have run out of data
        if frame.f_code is sharding:
            return True
        frame = frame.f_back
    return False
