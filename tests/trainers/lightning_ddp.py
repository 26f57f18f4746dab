"""Two processes over gloo train in Lightning, and each writes what it did: python lightning_ddp.py FOLDER"""

from __future__ import annotations

import sys
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers import ManifoldMixup
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import BATCH, PLACES, Net, digits


class Child(pl.LightningModule):
    """The network is a child, the loss another."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.loss = Net(), nn.CrossEntropyLoss()

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Own(Child):
    """The network is the LightningModule itself, which DDP calls too, to run training_step."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = self.net.one, self.net.two, self.net.head
        del self.net, self.loss

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


class Report(pl.Callback):
    """Writes what one process did."""

    def __init__(self, path: str, mixing: Mixing) -> None:
        self.path, self.mixing = path, mixing

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        report = {
            "parameters": [parameter.detach() for parameter in pl_module.parameters()],
            "lams": [record.lam for record in self.mixing.mixer.history],
        }
        torch.save(report, f"{self.path}-{trainer.global_rank}.pt")

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        torch.save(logged, f"{self.path}-{trainer.global_rank}-logged.pt")


def main(folder: str) -> None:
    x, y, *_ = digits()
    for kind in (Child, Own):
        mixing = Mixing(ManifoldMixup(), PLACES)
        trainer = pl.Trainer(
            accelerator="cpu",
            strategy="ddp_fork",
            devices=2,
            max_epochs=1,
            callbacks=[mixing, Report(f"{folder}/{kind.__name__}", mixing)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(kind(), DataLoader(TensorDataset(x, y), BATCH))


if __name__ == "__main__":
    main(sys.argv[1])
