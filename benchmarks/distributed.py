"""Time a DistributedDataParallel step with mixing against the same without, in two processes over gloo.

    python benchmarks/distributed.py [--quick] [--out results.json]

ResNet-18, a plain and a mixed copy, take turns in both processes. Whole steps waver by more than mixing costs, so what
mixing adds is also timed by itself, as in benchmarks/mixing.py, and set over the same plain step: a stub in place of
the model, forward, loss and backward, with hooks, plan and blend and without. Promised: a mixed step takes at most 1.03
of a plain one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from parts.report import main
from parts.resnet import ResNet18
from parts.steps import CLASSES, Stub
from parts.timing import Row, Scale, Spread, interleave, ratio
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixlayers import ManifoldMixup, Method, PatchUp
from mixlayers.torch import cross_entropy, wrap

LIMIT = 1.03
PLACES = ["input", "layer1", "layer2"]
METHODS: dict[str, Method] = {
    "Manifold Mixup": ManifoldMixup(),
    "PatchUp hard": PatchUp("hard"),
    "PatchUp soft": PatchUp("soft"),
}


def step_of(model: nn.Module, images: Tensor, labels: Tensor, method: Method | None) -> Callable[[], None]:
    """A training step in this process."""
    run = DistributedDataParallel(model if method is None else wrap(model, method, PLACES))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def loss_of() -> Tensor:
        if method is None:
            return F.cross_entropy(run(images), labels)
        return cross_entropy(*run(images, target=labels))

    def step() -> None:
        loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def own_part(scale: Scale, batch: int, width: int, method: Method) -> list[float]:
    """Seconds that mixing adds at layer1, the largest feature that it mixes; round by round."""
    feature = torch.randn(batch, width, scale.size, scale.size, requires_grad=True)
    images, labels = torch.randn(batch, 3, scale.size, scale.size), torch.randint(CLASSES, (batch,))
    logits, gradient = torch.randn(batch, CLASSES, requires_grad=True), torch.randn(feature.shape)
    bare, mixed = Stub(feature), wrap(Stub(feature), method, layers="layer1", trust=True)

    def plain() -> None:
        output = bare(images)
        torch.autograd.grad(F.cross_entropy(logits, labels), logits)
        torch.autograd.grad(output, feature, gradient)

    def ours() -> None:
        output, target = mixed(images, target=labels)
        torch.autograd.grad(cross_entropy(logits, target), logits)
        torch.autograd.grad(output, feature, gradient)

    times = interleave({"plain": plain, "ours": ours}, 3 * scale.rounds)
    return [one - other for one, other in zip(times["ours"], times["plain"], strict=True)]


def measure(rank: int, folder: str, scale: Scale, threads: int) -> None:
    """What each process does; the first one writes the rows."""
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    batch, width = scale.batch // 4, max(4, scale.width // 4)
    images, labels = torch.randn(batch, 3, scale.size, scale.size), torch.randint(CLASSES, (batch,))
    cases: dict[str, Method | None] = {"plain": None, **METHODS}
    work = {name: step_of(ResNet18(width, CLASSES), images, labels, method) for name, method in cases.items()}
    times = interleave(work, 3 * scale.rounds)
    dist.barrier()
    alone = {name: own_part(scale, batch, width, method) for name, method in METHODS.items()}
    dist.barrier()
    if rank == 0:
        what, rows = f"ResNet-18, width {width}, batch {batch} a process", []
        whole = median(times["plain"])
        for name in METHODS:
            rows.append(
                Row(
                    "DDP step",
                    f"{name}, {what}",
                    "x DDP plain",
                    ratio(times[name], times["plain"]),
                    limit=LIMIT,
                )
            )
        for name in METHODS:
            share = Spread.of([1 + seconds / whole for seconds in alone[name]])
            rows.append(Row("DDP own part", f"{name} at layer1, {what}", "x DDP plain", share, limit=LIMIT))
        Path(folder, "rows.json").write_text(json.dumps([row.to_dict() for row in rows]), encoding="utf-8")
    dist.destroy_process_group()


def rows(scale: Scale) -> list[Row]:
    """Run the processes; what the first one wrote."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(measure, args=(folder, scale, torch.get_num_threads()), nprocs=2)
        return [
            Row.from_dict(row) for row in json.loads(Path(folder, "rows.json").read_text(encoding="utf-8"))
        ]


if __name__ == "__main__":
    main({"ddp": rows}, ("torch",), torch.set_num_threads)
