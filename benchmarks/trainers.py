"""Time what the trainers' callbacks add to a step, and compare it with what is promised.

    python benchmarks/trainers.py [--quick] [--threads 2] [--out results.json]

A trainer runs with the callback, and with the same mixing written out in its step, in turns, on a network that
does next to nothing: whole steps are noisier than what is sought. The difference, per step, is divided by the
time of a ResNet-18 step. Medians with quartiles.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from parts.report import main
from parts.resnet import ResNet18
from parts.timing import Row, Scale, Spread, interleave
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mixlayers import ManifoldMixup
from mixlayers.torch import Mixer, cross_entropy, wrap
from mixlayers.trainers import lightning, skorch

LIMIT = 1.0
METHOD, PLACES, CLASSES = ManifoldMixup(), ["input", "0"], 10


def small_net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, CLASSES))


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(16, 8), torch.randint(CLASSES, (16,)))] * steps


class Plain(pl.LightningModule):
    """For the callback."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = small_net(), nn.CrossEntropyLoss()

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


class Functional(Plain):
    """The same with a loss that the callback has to recognise."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def __init__(self) -> None:
        super().__init__()
        del self.loss


class Explicit(Plain):
    """The same mixing in three lines of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        wrap(self.net, METHOD, PLACES)

    def training_step(self, batch: Any, index: int) -> Tensor:
        output, target = self.net(batch[0], target=batch[1])
        return cross_entropy(output, target)


def in_lightning(kind: type[Plain], data: list[Any]) -> Callable[[], None]:
    def run() -> None:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[] if kind is Explicit else [lightning.Mixing(METHOD, PLACES)],
        )
        trainer.fit(kind(), DataLoader(data, batch_size=None))  # type: ignore[arg-type]

    return run


class Unlogged(NeuralNetClassifier):
    """Mixes by itself, in three lines."""

    def initialize_module(self) -> Any:
        super().initialize_module()
        self.mixed = [Mixer(self.module_, METHOD, PLACES)]
        return self

    def initialize_criterion(self) -> Any:
        super().initialize_criterion()
        self.criterion_ = self.mixed[0].loss(self.criterion_)
        return self


def in_skorch(kind: Any, data: list[Any], **settings: Any) -> Callable[[], None]:
    x, y = (torch.cat(each).numpy() for each in zip(*data, strict=True))

    def run() -> None:
        kind(
            small_net(),
            criterion=nn.CrossEntropyLoss,
            max_epochs=1,
            batch_size=16,
            train_split=None,
            verbose=0,
            **settings,
        ).fit(x, y)

    return run


def rows(scale: Scale) -> list[Row]:
    """The callbacks' shares of a step."""
    steps = 10 * scale.rounds
    data = batches(steps)
    runs = {
        "explicit": in_lightning(Explicit, data),
        "Lightning, loss module": in_lightning(Plain, data),
        "Lightning, functional loss": in_lightning(Functional, data),
        "skorch explicit": in_skorch(Unlogged, data),
        "skorch": in_skorch(
            NeuralNetClassifier, data, callbacks=[("m", skorch.Mixing(METHOD, layers=PLACES))]
        ),
    }
    times = interleave(runs, scale.rounds)
    step = median(interleave({"step": real_step(scale)}, scale.steps)["step"])
    found = []
    for name, base in (
        ("Lightning, loss module", "explicit"),
        ("Lightning, functional loss", "explicit"),
        ("skorch", "skorch explicit"),
    ):
        added = [(ours - theirs) / steps for ours, theirs in zip(times[name], times[base], strict=True)]
        found.append(Row("callback", name, "us a step", Spread.of([1e6 * t for t in added])))
        share = Spread.of([100 * t / step for t in added])
        found.append(Row("callback", name, f"% of ResNet-18, batch {scale.batch}", share, limit=LIMIT))
    return found


def real_step(scale: Scale) -> Callable[[], None]:
    model = ResNet18(scale.width, CLASSES)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.randn(scale.batch, 3, scale.size, scale.size)
    labels = torch.randint(CLASSES, (scale.batch,))

    def run() -> None:
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return run


def start(threads: int) -> None:
    torch.set_num_threads(threads)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    main({"callback": rows}, ("torch", "lightning", "skorch"), start, threads=2)
