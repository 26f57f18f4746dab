"""Lightning: Mixup against none, by one callback of Lightning; all else is the same module."""

import logging
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from evidence import Job, Run
from evidence.cifar.networks import build
from evidence.cifar.training import SHIFT, rows_of, scored
from mixlayers.cli.methods import METHODS
from mixlayers.cli.train import Batches
from mixlayers.trainers.lightning import Mixing


class Classifier(pl.LightningModule):
    """Knows nothing of mixing."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.loss = net, nn.CrossEntropyLoss()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.loss(self.net(images), labels)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)]


class Loader:
    """The training images as Lightning wants them."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.batches:
            yield torch.from_numpy(images), torch.from_numpy(labels)


def work(job: Job, settings: Job) -> Run:
    asked: dict[str, Any] = {**settings, **job}
    data, rows = rows_of(asked)
    entry = METHODS[asked["method"]]
    mixing = [] if entry.method is None else [Mixing(entry.method, layers=entry.layers, seed=asked["seed"])]
    module = Classifier(build(asked["network"], asked["width"], asked["stages"], asked["seed"]))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = pl.Trainer(
        accelerator="cpu" if asked["device"] == "cpu" else "gpu",
        devices=1,
        max_epochs=asked["epochs"],
        callbacks=mixing,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Loader(Batches(data, rows.train, asked["seed"], asked["batch"], SHIFT)))
    return scored(module.net.eval(), data, rows)
