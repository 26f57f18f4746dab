"""What the trainers train here: a small network on few digits, and a method that shows what was mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import ManifoldMixup

TRAIN, BATCH, EPOCHS, LR = 400, 50, 30, 5e-3
STEPS = EPOCHS * TRAIN // BATCH
METHOD = ManifoldMixup(alpha=0.5)
PLACES = ("input", "one", "two")


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (N, 64) and labels to train on and to test on, in an order that mixes the writers."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.tensor(images[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order])
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


class Net(nn.Module):
    """64 features to 10 logits, with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU())
        self.two = nn.Sequential(nn.Linear(128, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)))


@dataclass(frozen=True, repr=False)
class Swap(ManifoldMixup):
    """Everybody becomes their partner: lam = 0, and nobody is paired with themselves."""

    pairs: Any = "derangement"

    def draw(self, rng: np.random.Generator, perm: Any, place: str) -> Any:
        return 0.0, None


def check_swapped(net: nn.Module, x: Tensor, y: Tensor, output: Tensor, loss: Tensor, perm: Any) -> None:
    """The swap test of a step: output and loss are the partners', of the net as it was before the step."""
    assert not (perm == np.arange(len(y))).any()
    partner = torch.from_numpy(perm)
    expected = net(x)[partner]
    assert (expected - net(x)).abs().max() > 0.1, "the samples are too alike for the test to mean anything"
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, F.cross_entropy(expected, y[partner]), rtol=1e-4, atol=1e-5)


def hooks(module: nn.Module) -> int:
    """How many forward hooks there are on a module and its children."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
