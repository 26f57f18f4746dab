"""What the race times: the same operation by everybody, each to soft targets, and the published formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peers.adapters import Mixing, Peer
from peers.listed import PEERS
from peers.own import Ours, method_of
from torch import Tensor

from mixlayers.torch import mix

Batch = tuple[Tensor, Tensor]


def batch(shape: tuple[int, ...], classes: int) -> Batch:
    """Random images and labels."""
    return torch.rand(shape), torch.randint(classes, shape[:1])


def softly(mixing: Mixing, classes: int, one_hot: bool) -> Mixing:
    """A mixing that takes class indices and returns soft labels, whatever it does by itself."""

    def run(x: Any, y: Any) -> Any:
        output = mixing(x, F.one_hot(y, classes).float() if one_hot else y)
        if len(output) == 2:
            return output
        mixed, first, second, lam = output
        lam = torch.as_tensor(lam).reshape(-1, 1)
        return mixed, lam * F.one_hot(first, classes) + (1 - lam) * F.one_hot(second, classes)

    return run


def installed(op: str, lam_per: tuple[str, ...]) -> Iterator[Peer]:
    """The PyTorch peers that can be imported here, with that operation."""
    for peer in PEERS:
        if (
            peer.op != op
            or peer.lam_per not in lam_per
            or peer.package in ("mixlayers", "paddleclas", "monai")
        ):
            continue
        try:
            peer.make(10)
        except ImportError:
            continue
        yield peer


def own_runs(op: str, lam_per: str, x: Tensor, y: Tensor, classes: int) -> dict[str, Callable[[], object]]:
    """Ours and the plain formula."""
    mixings = {"ours": Ours(mix, method_of(op, lam_per), classes), "formula": formula(op, lam_per, classes)}
    return {name: partial(mixing, x, y) for name, mixing in mixings.items()}


def runs(op: str, lam_per: str, x: Tensor, y: Tensor, classes: int) -> dict[str, Callable[[], object]]:
    """Ours, the plain formula, and every peer. MONAI is left out: it mixes no class labels rightly."""
    work = own_runs(op, lam_per, x, y, classes)
    for peer in installed(op, ("sample", "pair") if lam_per == "sample" else ("batch",)):
        work[peer.name] = partial(softly(peer.make(classes), classes, peer.labels == "one-hot"), x, y)
    return work


def formula(op: str, lam_per: str, classes: int) -> Mixing:
    """The published formula, written as most people write it; lam per sample is the same with a vector, or a loop."""
    rng = np.random.default_rng(0)

    def soft(y: Tensor, perm: Tensor, lam: Any) -> Tensor:
        one_hot = F.one_hot(y, classes).float()
        return lam * one_hot + (1 - lam) * one_hot[perm]

    def mixup(x: Tensor, y: Tensor) -> Batch:
        perm = torch.randperm(len(x))
        if lam_per == "batch":
            lam = rng.beta(1.0, 1.0)
            return lam * x + (1 - lam) * x[perm], soft(y, perm, lam)
        each = torch.from_numpy(rng.beta(1.0, 1.0, len(x)).astype(np.float32))
        wide = each.view(-1, 1, 1, 1)
        return wide * x + (1 - wide) * x[perm], soft(y, perm, each.view(-1, 1))

    def cutmix(x: Tensor, y: Tensor) -> Batch:
        perm, mixed = torch.randperm(len(x)), x.clone()
        height, width = x.shape[2:]
        if lam_per == "batch":
            top, bottom, left, right = _box(rng, height, width)
            mixed[:, :, top:bottom, left:right] = x[perm, :, top:bottom, left:right]
            return mixed, soft(y, perm, 1 - (bottom - top) * (right - left) / (height * width))
        lam = torch.empty(len(x), 1)
        for sample, partner in enumerate(perm.tolist()):
            top, bottom, left, right = _box(rng, height, width)
            mixed[sample, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
            lam[sample] = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, soft(y, perm, lam)

    return mixup if op == "Mixup" else cutmix


def _box(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    side = np.sqrt(1 - rng.beta(1.0, 1.0))
    tall, wide = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(y - tall // 2, 0),
        min(y + tall // 2, height),
        max(x - wide // 2, 0),
        min(x + wide // 2, width),
    )
