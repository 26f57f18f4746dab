"""The demo's network at width 8, trained once, and what its training depends on."""

import hashlib
import os
from collections.abc import Sequence
from functools import cache
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Final

import numpy as np
import torch

from mixlayers import ManifoldMixup, Method
from mixlayers.cli.data import DataSet, Split, load, split
from mixlayers.cli.methods import COMPARED, HIDDEN
from mixlayers.cli.network import initial_weights
from mixlayers.cli.score import measured
from mixlayers.cli.torch_side import SmallResNet, predict
from mixlayers.cli.train import Batches, one_cycle
from mixlayers.torch import cross_entropy, unwrap, wrap

WIDTH: Final = 8


def trained(
    method: Method | None, layers: str | Sequence[str], data: DataSet, rows: Split, seed: int, steps: int
) -> SmallResNet:
    """The demo's network at width 8, trained by the demo's recipe; in eval mode.

    Equal seeds start all methods from the same weights and show them the same batches. If the environment has
    EVIDENCE_NETWORKS, a folder, trained networks are kept there for the next study that asks for the same.
    """
    network = SmallResNet(WIDTH, channels=data.channels)
    key = f"{method!r} {layers} {data.name} {len(rows.train)} {seed} {steps} {fingerprint()}"
    kept = (
        Path(os.environ.get("EVIDENCE_NETWORKS", "")) / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
    )
    if "EVIDENCE_NETWORKS" in os.environ and kept.exists():
        network.load_state_dict(torch.load(kept))
        return network.eval()
    weights = initial_weights(seed, WIDTH, channels=data.channels)
    start = {name: torch.from_numpy(value) for name, value in weights.items()}
    network.load_state_dict(start, strict=False)  # norms start as they are
    if method is not None:
        wrap(network, method, layers=layers, seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = chain.from_iterable(repeat(Batches(data, rows.train, seed)))
    for step, (images, labels) in enumerate(islice(batches, steps)):
        rate, momentum = one_cycle(step, steps)
        optimizer.param_groups[0].update(lr=rate, momentum=momentum)
        x, target = torch.from_numpy(images), torch.from_numpy(labels)
        output, target = (network(x), target) if method is None else network(x, target=target)
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(output, target))
        optimizer.step()
    if method is not None:
        unwrap(network)
    if "EVIDENCE_NETWORKS" in os.environ:
        torch.save(network.state_dict(), kept)
    return network.eval()


def scored(network: SmallResNet, data: DataSet, rows: Split) -> dict[str, float]:
    """Accuracy, likelihood and calibration on the test images, the temperature fitted on the validation images."""
    chances, validation = (
        predict(network, torch.from_numpy(data.take(part))) for part in (rows.test, rows.validation)
    )
    return measured(chances, data.labels[rows.test], validation, data.labels[rows.validation])


@cache
def pictures(name: str) -> DataSet:
    """A data set of the demo."""
    return load(name)[0]


def parts(data: DataSet, labels_per_class: int, seed: int, tested: int) -> Split:
    """The demo's split, of which the first test images are used."""
    rows = split(data, labels_per_class, seed)
    return Split(rows.train, rows.validation, rows.test[:tested])


@cache
def fingerprint() -> str:
    """Of what a run depends on: the plans and shares of every method, the first weights and batches.

    A record whose fingerprint is not today's was made by code that drew otherwise.
    """
    data = pictures("mnist5k")
    digest = hashlib.sha256()
    entries = {name: entry.method for name, entry in COMPARED.items() if entry.method is not None}
    for method in (*entries.values(), ManifoldMixup(0.1)):
        for step in range(10):
            plan = method.plan(step=step, batch_size=50, places=HIDDEN, seed=1)
            share = float(plan.blend((50, 1, 28, 28) if plan.place == "input" else (50, 8, 14, 14)).s)
            digest.update(f"{plan.place} {share:.6f} {plan.perm.tolist()}".encode())
    for value in initial_weights(0, WIDTH).values():
        digest.update(np.round(value, 5).tobytes())
    images, labels = next(iter(Batches(data, split(data, 20, 0).train, 0)))
    digest.update(np.round(255 * images).astype(np.uint8).tobytes() + labels.tobytes())
    digest.update(f"{[one_cycle(step, 200) for step in (0, 20, 100, 199)]}".encode())
    return digest.hexdigest()[:16]
