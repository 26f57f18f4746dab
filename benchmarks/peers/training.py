"""The parts of the race inside a model: a training step, and the number of candidate layers."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from parts.resnet import ResNet18
from parts.timing import TINY, Row, Scale, Spread, interleave, ratio
from torch import Tensor, nn

from mixlayers import ManifoldMixup
from mixlayers.torch import cross_entropy, wrap

CLASSES = 10
PLACES = ("input", "layer1", "layer2")


class Rewritten(ResNet18):
    """Manifold Mixup as published: the forward pass is rewritten, and mixes at a stage drawn beforehand."""

    def mixed(self, x: Tensor, place: str, lam: float, perm: Tensor) -> Tensor:
        """The logits, mixed at one place."""

        def at(name: str, x: Tensor) -> Tensor:
            return lam * x + (1 - lam) * x[perm] if name == place else x

        x = F.relu(self.bn1(self.conv1(at("input", x))))
        x = at("layer2", self.layer2(at("layer1", self.layer1(x))))
        return self.linear(self.layer4(self.layer3(x)).mean((2, 3)))


def step_rows(scale: Scale) -> list[Row]:
    """A whole training step of ResNet-18 with Manifold Mixup; plain is the same without mixing."""
    size, width = (scale.batch, scale.width) if scale is TINY else (64, 32)
    images, labels = torch.randn(size, 3, scale.size, scale.size), torch.randint(CLASSES, (size,))
    losses: dict[str, tuple[nn.Module, Callable[[nn.Module], Tensor]]] = {
        "plain": (ResNet18(width), lambda model: F.cross_entropy(model(images), labels)),
        "ours": (
            wrap(ResNet18(width), ManifoldMixup(), PLACES),
            lambda model: cross_entropy(*model(images, target=labels)),
        ),
        "rewritten model": (Rewritten(width), lambda model: _rewritten(model, images, labels)),
    }
    if find_spec("torchbearer") is not None:
        losses["torchbearer"] = _torchbearer(ResNet18(width), images, labels)
    work = {name: _step(model, loss) for name, (model, loss) in losses.items()}
    times = interleave(work, scale.rounds)
    plain = times.pop("plain")
    what = f"ResNet-18 of width {width}, {size}x3x{scale.size}x{scale.size}, Manifold Mixup"
    rivals = {name: ratio(taken, plain) for name, taken in times.items() if name != "ours"}
    return [Row("step", what, "x the step without mixing", ratio(times["ours"], plain), rivals)]


def _step(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Callable[[], None]:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimiser.zero_grad()
        loss(model).backward()
        optimiser.step()

    return run


def _rewritten(model: Any, images: Tensor, labels: Tensor) -> Tensor:
    lam, perm = float(np.random.default_rng().beta(2.0, 2.0)), torch.randperm(len(images))
    logits = model.mixed(images, random.choice(PLACES), lam, perm)
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[perm])


def _torchbearer(
    model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """Its callback by itself, without its trainer; it has no place at the input."""
    import torchbearer
    from torchbearer.callbacks.manifold_mixup import ManifoldMixup as Theirs

    callback = Theirs(alpha=2.0).for_layers(["layer1", "layer2"])
    state = {torchbearer.MODEL: model}
    callback.on_start(state)

    def loss(model: nn.Module) -> Tensor:
        state.update({torchbearer.X: images, torchbearer.Y_TRUE: labels})
        callback.on_sample(state)
        logits, (first, second) = model(state[torchbearer.X]), state[torchbearer.Y_TRUE]
        lam = state[torchbearer.MIXUP_LAMBDA]
        return F.cross_entropy(logits, first) * lam + F.cross_entropy(logits, second) * (1 - lam)

    return model, loss


def layer_rows(scale: Scale) -> list[Row]:
    """What a mixed forward and backward pass adds per step, as candidate layers are added; they do nothing else."""
    x, y = torch.randn(32, 16, 8, 8, requires_grad=True), torch.randint(CLASSES, (32,))
    counts = (1, 2) if scale is TINY else (1, 4, 16, 64)
    rows = []
    for count in counts:
        names = [str(number) for number in range(count)]
        plain = nn.Sequential(*(nn.Identity() for _ in names))
        mixed = wrap(nn.Sequential(*(nn.Identity() for _ in names)), ManifoldMixup(), names)
        work: dict[str, Callable[[], object]] = {
            "plain": lambda plain=plain: torch.autograd.grad(F.cross_entropy(plain(x).mean((2, 3)), y), x),
            "ours": lambda mixed=mixed: torch.autograd.grad(_mixed_loss(mixed, x, y), x),
        }
        times = interleave(work, 4 * scale.rounds, repeat=1 if scale is TINY else 10)
        added = [1e6 * (one - other) for one, other in zip(times["ours"], times["plain"], strict=True)]
        rows.append(Row("layers", f"{count} candidate layers", "us a step", Spread.of(added)))
    return rows


def _mixed_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    output, target = model(x, target=y)
    return cross_entropy(output.mean((2, 3)), target)
