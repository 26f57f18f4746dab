"""Processes that train a model as a group agree with each other, and with no process outside of it."""

import faulthandler
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from mixlayers.torch import wrap
from tests.torch.audit_ranks import Pooled, said
from tests.torch.gloo import gloo


def sharded(group: dist.ProcessGroup) -> nn.Module:
    model = Pooled()
    for part in (model.a, model.b, model):
        fully_shard(part, mesh=DeviceMesh.from_group(group, "cpu"))
    return wrap(model, layers=["a", "b"])


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(400, exit=True)  # where one waits for another
    with gloo(f"{folder}/meet", rank, 3):
        torch.save(answers(rank), f"{folder}/{rank}.pt")


def answers(rank: int) -> list[str]:
    group = dist.new_group([0, 1])
    found: list[str] = []
    if rank < 2:
        for leak in (False, True):
            torch.manual_seed(0)
            data = DistributedDataParallel(wrap(Pooled(), layers=["a", "b"]), process_group=group)
            found += [said(model, rank, leak=leak) for model in (data, sharded(group))]
    dist.barrier()  # the third process comes here at once
    return found


def test_a_group_agrees_by_itself(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=3)
    first, second, third = (torch.load(tmp_path / f"{rank}.pt") for rank in range(3))
    assert not third
    assert first[:2] == second[:2] == ["mixed", "mixed"]
    for said_of_leak in (*first[2:], *second[2:]):
        assert "argument 'weights' reaches it another way" in said_of_leak
