"""What each of two processes does, for test_distributed.py: a scene returns a model's state and the plans drawn."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mixlayers import ManifoldMixup, PatchUp
from mixlayers.torch import convert_iebn, cross_entropy, get_mixer, wrap
from mixlayers_torch._iebn.sync import SyncIEBN
from tests.torch.gloo import gloo

STEPS = 4
SAVED = 2
PLACES = ["input", "one", "two"]


class Part(nn.Module):
    """A layer that may be recomputed in the backward pass."""

    def __init__(self, layer: nn.Module, recompute: bool) -> None:
        super().__init__()
        self.layer, self.recompute = layer, recompute

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute:
            return checkpoint(self._own, x, use_reentrant=False)
        return self._own(x)

    def _own(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))


class Net(nn.Module):
    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = Part(nn.Linear(6, 6), recompute), Part(nn.Linear(6, 6), recompute)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)))


def batch(rank: int, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step_of(run: Any, rank: int, step: int) -> None:
    x, y = batch(rank, step)
    cross_entropy(*run(x, target=y)).backward()


def full(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, tensor in model.state_dict().items():
        found[name.removeprefix("module.")] = (
            tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        )
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def train(run: Any, rank: int, accumulate: int = 1, mixer: Any = None, first: int = 0) -> list[float]:
    optimiser, lams = optimiser_of(run), []
    for step in range(first, STEPS):
        last = (step + 1) % accumulate == 0
        if isinstance(run, DistributedDataParallel):
            with torch.enable_grad() if last else run.no_sync():
                step_of(run, rank, step)
        else:
            step_of(run, rank, step)
        lams.append(float((mixer or get_mixer(run)).last.lam))
        if last:
            optimiser.step()
            optimiser.zero_grad()
    return lams


def ddp(rank: int, folder: str) -> dict[str, Any]:
    run = DistributedDataParallel(wrap(Net(), ManifoldMixup(), PLACES))
    lams = train(run, rank, mixer=get_mixer(run.module))
    return {"state": full(run), "lams": lams}


def ddp_wrapped_afterwards(rank: int, folder: str) -> dict[str, Any]:
    run = DistributedDataParallel(Net())
    wrap(run.module, ManifoldMixup(), PLACES)
    return {"lams": train(run, rank, mixer=get_mixer(run.module)), "state": full(run)}


def ddp_accumulating(rank: int, folder: str) -> dict[str, Any]:
    run = DistributedDataParallel(wrap(Net(), ManifoldMixup(), PLACES))
    return {"lams": train(run, rank, accumulate=2, mixer=get_mixer(run.module)), "state": full(run)}


def ddp_same_plans(rank: int, folder: str) -> dict[str, Any]:
    run = DistributedDataParallel(wrap(Net(), ManifoldMixup(), PLACES, rank=0))
    return {"lams": train(run, rank, mixer=get_mixer(run.module)), "state": full(run)}


def ddp_compiled(rank: int, folder: str) -> dict[str, Any]:
    model = wrap(Net(), ManifoldMixup(), PLACES)
    run = torch.compile(DistributedDataParallel(model), backend="aot_eager")
    lams = []
    optimiser = optimiser_of(model)
    for step in range(STEPS):
        step_of(run, rank, step)
        lams.append(float(get_mixer(model).last.lam))
        optimiser.step()
        optimiser.zero_grad()
    return {"lams": lams, "state": full(model)}


def sharded(recompute: bool = False) -> nn.Module:
    model = Net(recompute)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (model.one, model.two, model):
        fully_shard(part, mesh=mesh)
    return model


def fsdp(rank: int, folder: str) -> dict[str, Any]:
    model = wrap(sharded(), ManifoldMixup(), PLACES)
    return {"lams": train(model, rank), "state": full(model)}


def fsdp_wrapped_before(rank: int, folder: str) -> dict[str, Any]:
    model = wrap(Net(), ManifoldMixup(), PLACES)
    mesh = init_device_mesh("cpu", (2,))
    for part in (model.one, model.two, model):
        fully_shard(part, mesh=mesh)
    return {"lams": train(model, rank), "state": full(model)}


def fsdp_checkpointed(rank: int, folder: str) -> dict[str, Any]:
    model = wrap(sharded(recompute=True), ManifoldMixup(), PLACES)
    return {"lams": train(model, rank), "state": full(model)}


Run = tuple[nn.Module, torch.optim.Optimizer]


def start() -> Run:
    model = wrap(sharded(), ManifoldMixup(), PLACES)
    return model, optimiser_of(model)


def state_of(run: Run) -> dict[str, Any]:
    own, momenta = get_state_dict(*run)
    return {"model": own, "optimiser": momenta, "mixer": get_mixer(run[0]).state_dict()}


def load(run: Run, path: str) -> None:
    state = state_of(run)
    dcp.load(state, checkpoint_id=path)
    set_state_dict(*run, model_state_dict=state["model"], optim_state_dict=state["optimiser"])
    get_mixer(run[0]).load_state_dict(state["mixer"])


def go_on(run: Run, rank: int, first: int, last: int) -> list[float]:
    model, optimiser = run
    lams = []
    for step in range(first, last):
        step_of(model, rank, step)
        lams.append(float(get_mixer(model).last.lam))
        optimiser.step()
        optimiser.zero_grad()
    return lams


def fsdp_resumed(rank: int, folder: str) -> dict[str, Any]:
    """Two steps, a checkpoint, and the rest by other objects."""
    first, second = start(), start()
    lams = go_on(first, rank, 0, SAVED)
    dcp.save(state_of(first), checkpoint_id=f"{folder}/dcp")
    load(second, f"{folder}/dcp")
    return {"lams": lams + go_on(second, rank, SAVED, STEPS), "state": full(second[0])}


def resume(rank: int, folder: str, world: int) -> None:
    """What each of any number of processes does with the checkpoint that two have saved."""
    torch.set_num_threads(1)
    with gloo(f"{folder}/meet{world}", rank, world):
        torch.save(resumed(rank, folder), f"{folder}/{world}.{rank}.pt")


def resumed(rank: int, folder: str) -> dict[str, Any]:
    run = start()
    load(run, f"{folder}/dcp")
    return {"lams": go_on(run, rank, SAVED, STEPS), "state": full(run[0])}


def patchup_in_images(rank: int, folder: str) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    run = DistributedDataParallel(wrap(model, PatchUp("soft", block_size=3), "1"))
    lams, optimiser = [], optimiser_of(run)
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(10 * step + rank)
        images, labels = torch.randn(4, 3, 9, 9, generator=generator), torch.arange(4) % 3
        cross_entropy(*run(images, target=labels)).backward()
        lams.append(float(get_mixer(model).last.lam))
        optimiser.step()
        optimiser.zero_grad()
    return {"lams": lams, "state": full(model)}


def normed() -> nn.Module:
    torch.manual_seed(0)
    return convert_iebn(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))
    )


def joint_images() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(3)), torch.arange(8) % 3


def iebn_joint(rank: int, folder: str) -> dict[str, Any]:
    model = DistributedDataParallel(SyncIEBN.convert_sync_iebn(normed()))
    images, labels = joint_images()
    own = slice(4 * rank, 4 * rank + 4)
    nn.functional.cross_entropy(model(images[own]), labels[own]).backward()
    gradients = {name: p.grad.clone() for name, p in model.module.named_parameters()}
    return {"state": {**full(model), **{f"grad {name}": g for name, g in gradients.items()}}, "lams": [rank]}


SCENES: list[Callable[[int, str], dict[str, Any]]] = [
    ddp, ddp_wrapped_afterwards, ddp_accumulating, ddp_same_plans, ddp_compiled, fsdp, fsdp_wrapped_before,
    fsdp_checkpointed, fsdp_resumed, patchup_in_images, iebn_joint,
]  # fmt: skip
