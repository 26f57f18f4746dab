"""What each of two processes runs for test_audit_ranks.py: one of them alone has a batch that shows a leak."""

from __future__ import annotations

import faulthandler
import warnings
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from mixlayers.torch import unwrap, wrap
from tests.torch.gloo import gloo

flat = partial(FullyShardedDataParallel, device_id=torch.device("cpu"))


class Pooled(nn.Module):
    """Pools by weights that come beside the features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return self.head((self.b(self.a(x).relu()).relu() * weights[:, :, None]).sum(1))


class Picky(Pooled):
    """On one process alone it takes no four samples, as the audit has them."""

    refuses = False

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        if self.refuses and len(x) == 4:
            raise RuntimeError("five at least")
        return super().forward(x, weights)


def said(call: nn.Module, rank: int, *, leak: bool) -> str:
    """What a mixed step says: of a leak that rank 1 alone sees."""
    x = torch.randn(6, 5, 6, generator=torch.Generator().manual_seed(rank))
    weights = torch.ones(6, 5, dtype=torch.int64)
    if leak and rank == 1:
        weights[:, 1:] = torch.arange(6)[:, None] % 4
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            output, target = call(x, weights, target=torch.arange(6) % 3)
            target.blend(lambda y: nn.functional.cross_entropy(output, y)).backward()
        except ValueError as error:
            return str(error)
    ours = [str(warning.message) for warning in told if "mixlayers" in str(warning.message)]
    return "; ".join(["mixed", *ours])


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(400, exit=True)  # where one waits for the other
    with gloo(f"{folder}/meet", rank, 2):
        torch.save(answers(rank), f"{folder}/{rank}.pt")


def answers(rank: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for leak in (False, True):
        torch.manual_seed(0)
        model = wrap(Pooled(), layers=["a", "b"])
        found[f"ddp {leak}"] = said(DistributedDataParallel(model), rank, leak=leak)
        unwrap(model)
        sharded = Pooled()
        for part in (sharded.a, sharded.b, sharded):
            fully_shard(part, mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
        found[f"fsdp {leak}"] = said(wrap(sharded, layers=["a", "b"]), rank, leak=leak)
        for kind in ("fsdp1", "fsdp1 in parts"):
            own = Pooled()
            if "parts" in kind:
                own.a, own.b = flat(own.a), flat(own.b)
            found[f"{kind} {leak}"] = said(flat(wrap(own, layers=["a", "b"])), rank, leak=leak)
    torch.manual_seed(0)
    picky = Picky()
    model = wrap(picky, layers=["a", "b"])
    whole = DistributedDataParallel(model)
    found["ddp, later"] = said(whole, rank, leak=False)
    picky.refuses = rank == 1
    found["ddp, again"] = said(whole, rank, leak=False)
    unwrap(model)
    found["ddp, first"] = said(DistributedDataParallel(wrap(picky, layers=["a", "b"])), rank, leak=False)
    return found
