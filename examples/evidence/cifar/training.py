"""One network of a CIFAR-10 study: its images, its training, its scores. The settings decide all of it."""

import hashlib
from collections.abc import Sequence
from functools import cache
from itertools import chain, islice, repeat
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from evidence import Job
from evidence.cifar.networks import build
from evidence.networks import pictures
from mixlayers import ManifoldMixup, Method
from mixlayers.cli.data import DataSet, Labels, Split, split
from mixlayers.cli.methods import COMPARED, METHODS
from mixlayers.cli.score import Probabilities, measured
from mixlayers.cli.torch_side import predict
from mixlayers.cli.train import Batches, one_cycle
from mixlayers.torch import cross_entropy, unwrap, wrap

SHIFT: Final = 4
CLASSES: Final = 10


def rows_of(asked: Job) -> tuple[DataSet, Split]:
    """The images of a job: training images of equally many in each class, validation images, test images."""
    data = pictures(asked["data"])
    rows = split(data, asked["labels"], asked["seed"], asked["validation"])
    return data, Split(rows.train, rows.validation, rows.test[: asked["tested"]])


def epochs_of(asked: Job) -> int:
    """Passes over the training images: `epochs` of them at `epochs_at` labels per class, at others by the root.

    So more labels are trained with more steps, but are seen less often each.
    """
    return max(1, round(asked["epochs"] * (asked["epochs_at"] / asked["labels"]) ** 0.5))


def noisy(labels: Labels, share: float, seed: int) -> Labels:
    """The labels, that share of them replaced by another class, any with the same chance."""
    rng = np.random.default_rng([seed, 3])
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    found = labels.copy()
    found[chosen] = (labels[chosen] + rng.integers(1, CLASSES, len(chosen))) % CLASSES
    return found


def mixing_of(asked: Job) -> tuple[Method | None, Sequence[str] | str]:
    """The job's method and layers: one of the demo's, or Manifold Mixup "at" layers, as "input, layer1 (alpha 2)"."""
    if "at" in asked:
        names, _, alpha = asked["at"].rstrip(")").partition(" (alpha ")
        return (ManifoldMixup(float(alpha)), tuple(names.split(", "))) if alpha else (None, ())
    entry = METHODS[asked["method"]]
    return entry.method, entry.layers


def trained(network: nn.Module, asked: Job, data: DataSet, train: Labels) -> nn.Module:
    """Train a network as the job asks; in eval mode afterwards."""
    device, seed = torch.device(asked["device"]), asked["seed"]
    method, layers = mixing_of(asked)
    network = network.to(device).train()
    if method is not None:
        wrap(network, method, layers=layers, seed=seed)
    learnt = [value for value in network.parameters() if value.requires_grad]
    in_bfloat16 = asked.get("bfloat16", device.type != "cpu")
    optimizer: torch.optim.Optimizer
    if asked["network"] == "vit":
        optimizer, factor = torch.optim.AdamW(learnt, weight_decay=0.05), 0.01
    else:
        optimizer, factor = torch.optim.SGD(learnt, momentum=0.9, nesterov=True, weight_decay=5e-4), 1.0
    batches = Batches(data, train, seed, asked["batch"], SHIFT)
    batches.labels = noisy(batches.labels, asked.get("noise", 0.0), seed)
    steps = epochs_of(asked) * len(batches)
    for step, (images, labels) in enumerate(islice(chain.from_iterable(repeat(batches)), steps)):
        rate, momentum = one_cycle(step, steps)
        change = {"lr": factor * rate} | ({"momentum": momentum} if factor == 1.0 else {})
        optimizer.param_groups[0].update(change)
        x, y = (torch.from_numpy(array).to(device) for array in (images, labels))
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            output, target = (network(x), y) if method is None else network(x, target=y)
            loss = cross_entropy(output, target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    if method is not None:
        unwrap(network)
    return network.eval()


def chances(network: nn.Module, images: np.ndarray) -> Probabilities:
    """Class probabilities of float32 images, wherever the network is."""
    device = next(network.parameters()).device

    def on_host(part: Tensor) -> Tensor:
        output: Tensor = network(part.to(device)).float().cpu()
        return output

    return predict(on_host, torch.from_numpy(images))


def scored(network: nn.Module, data: DataSet, rows: Split) -> dict[str, float]:
    """Accuracy, likelihood and calibration on the test images, the temperature fitted on the validation images."""
    tested, validation = (chances(network, data.take(part)) for part in (rows.test, rows.validation))
    return measured(tested, data.labels[rows.test], validation, data.labels[rows.validation])


def work(job: Job, settings: Job) -> dict[str, Any]:
    """Train and score the network of a job."""
    asked = {**settings, **job}
    data, rows = rows_of(asked)
    network = build(asked["network"], asked["width"], asked["stages"], asked["seed"])
    return scored(trained(network, asked, data, rows.train), data, rows)


@cache
def fingerprint() -> str:
    """Of what a run depends on: plans and shares of the methods, first weights, batches, wrong labels, the schedule.

    A record whose fingerprint is not today's was made by code that drew otherwise.
    """
    digest = hashlib.sha256()
    for name, entry in COMPARED.items():
        for step in range(10 if entry.method is not None else 0):
            places = (entry.layers,) if isinstance(entry.layers, str) else entry.layers
            plan = entry.method.plan(step=step, batch_size=100, places=places, seed=1)
            share = float(plan.blend((100, 3, 32, 32) if plan.place == "input" else (100, 16, 32, 32)).s)
            digest.update(f"{name} {plan.place} {share:.6f} {plan.perm.tolist()}".encode())
    for network in ("resnet", "vit"):
        for value in build(network, 32, 2, seed=0).parameters():
            digest.update(np.round(value.detach().numpy(), 5).tobytes())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
    data = DataSet("drawn", "drawn", "drawn", images, np.arange(200) % 10, 0.0, tested=100, flips=True)
    drawn, labels = next(iter(Batches(data, split(data, 5, 0, 10).train, 0, 20, SHIFT)))
    digest.update(np.round(255 * drawn).astype(np.uint8).tobytes() + labels.tobytes())
    digest.update(noisy(data.labels, 0.2, 0).tobytes())
    digest.update(f"{[one_cycle(step, 200) for step in (0, 20, 100, 199)]}".encode())
    return digest.hexdigest()[:16]
