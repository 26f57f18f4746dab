"""Every method in every kind of parallel training, for test_distributed.py: one scene for each combination."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from mixlayers import CutMix, ManifoldMixup, Method, Mixup, PatchUp
from mixlayers.torch import cross_entropy, get_mixer, wrap
from tests.torch.distributed_scenes import Part, full, optimiser_of

STEPS = 3
METHODS: dict[str, Method] = {
    "Mixup": Mixup(),
    "CutMix": CutMix(),
    "ManifoldMixup": ManifoldMixup(),
    "PatchUp hard": PatchUp("hard", block_size=3),
    "PatchUp soft": PatchUp("soft", block_size=3),
}
KINDS: dict[str, dict[str, bool]] = {
    "DDP": {},
    "DDP checkpointed": {"recompute": True},
    "DDP bf16": {"amp": True},
    "FSDP2": {"shard": True},
    "FSDP2 checkpointed": {"shard": True, "recompute": True},
    "FSDP2 bf16": {"shard": True, "amp": True},
}
COMPILED: dict[str, dict[str, bool]] = {
    "DDP compiled": {"compiled": True},
    "FSDP2 compiled": {"shard": True, "compiled": True},
}
COMPILED_PAIRS = [("DDP compiled", "PatchUp soft"), ("FSDP2 compiled", "ManifoldMixup")]  # each takes seconds


class Pictures(nn.Module):
    """Two convolutions and a head."""

    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = Part(nn.Conv2d(3, 4, 3), recompute), Part(nn.Conv2d(4, 4, 3), recompute)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)).mean((2, 3)))


def mixed(model: nn.Module, method: str, rank: int | None = None) -> Any:
    how = METHODS[method]
    return wrap(model, how, ["input", "one", "two"] if how.hidden else "auto", rank=rank)


def picture_step(run: Any, rank: int, step: int, amp: bool) -> None:
    generator = torch.Generator().manual_seed(10 * step + rank)
    x, y = torch.randn(4, 3, 9, 9, generator=generator), torch.randint(3, (4,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        output, target = run(x, target=y)
    cross_entropy(output.float(), target).backward()


def scene(
    method: str,
    rank: int,
    folder: str,
    *,
    shard: bool = False,
    recompute: bool = False,
    compiled: bool = False,
    amp: bool = False,
) -> dict[str, Any]:
    """Train in two processes."""
    model = mixed(Pictures(recompute), method)
    run: Any = model
    if shard:
        mesh = init_device_mesh("cpu", (2,))
        for part in (model.one, model.two, model):
            fully_shard(part, mesh=mesh)
    else:
        run = DistributedDataParallel(model)
    if compiled:
        torch.compiler.reset()
        run = torch.compile(run, backend="aot_eager")
    optimiser, lams = optimiser_of(model), []
    for step in range(STEPS):
        picture_step(run, rank, step, amp)
        lams.append(float(get_mixer(model).last.lam))
        optimiser.step()
        optimiser.zero_grad()
    return {"state": full(model), "lams": lams}


def combinations() -> dict[str, Callable[[int, str], dict[str, Any]]]:
    """Name -> scene."""
    pairs = [(kind, method) for kind in KINDS for method in METHODS]
    pairs += COMPILED_PAIRS
    return {
        f"{kind}, {method}": partial(scene, method, **{**KINDS, **COMPILED}[kind]) for kind, method in pairs
    }
