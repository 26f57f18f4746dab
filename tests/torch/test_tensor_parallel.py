"""Processes that compute one batch together, each with a part of the layers, need equal plans."""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from mixlayers import ManifoldMixup, MixPlan
from mixlayers.torch import cross_entropy, get_mixer, wrap

STEPS = 4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, plan: MixPlan | None = None) -> Tensor:
        x = mixed(x, plan, "input")
        x = mixed(self.one(x), plan, "one").relu()
        return self.head(mixed(self.two(x), plan, "two"))


def mixed(x: Tensor, plan: MixPlan | None, place: str) -> Tensor:
    if plan is None or plan.place != place:
        return x
    lam = float(plan.lam)
    return lam * x + (1 - lam) * x[np.array(plan.perm)]


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in found.items()}


def split(rank: int | None) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    model = parallelize_module(Net(), mesh, {"one": ColwiseParallel(), "two": RowwiseParallel()})
    return wrap(model, ManifoldMixup(), ["input", "one", "two"], rank=rank)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    x, y = batch()
    model, steps = split(rank=0), []
    for _ in range(STEPS):
        model.zero_grad()
        cross_entropy(*model(x, target=y)).backward()
        steps.append(gradients(model))
    refused = split(rank=None)
    said = ""
    try:
        refused(x, target=y)
    except RuntimeError as error:
        said = str(error)
    plain = refused.eval()(x)
    torch.save({"steps": steps, "said": said, "plain": plain.detach()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_equal_ranks_are_right_and_others_are_refused(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    x, y = batch()
    alone = wrap(Net(), ManifoldMixup(), ["input", "one", "two"], rank=0)
    for step in range(STEPS):
        alone(x, target=y)
        plan, by_hand = get_mixer(alone).last, Net()
        output, lam = by_hand(x, plan), float(plan.lam)
        losses = (nn.functional.cross_entropy(output, labels) for labels in (y, y[np.array(plan.perm)]))
        own, partners = losses
        (lam * own + (1 - lam) * partners).backward()
        for result in results:
            torch.testing.assert_close(result["steps"][step], gradients(by_hand))
    for rank, result in enumerate(results):
        assert "tensor parallelism" in result["said"]
        assert f"by rank {rank}'s" in result["said"]
        torch.testing.assert_close(result["plain"], Net()(x).detach())
