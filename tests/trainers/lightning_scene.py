"""LightningModules that compute their loss in different ways, and how to train them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers.torch import Mixer
from tests.trainers.digits_scene import (
    BATCH,
    LR,
    METHOD,
    PLACES,
    STEPS,
    TRAIN,
    Net,
    check_swapped,
    digits,
)

NOISE = "ignore:.*(LeafSpec|many workers|num_workers|number of training batches|You defined a `valid).*"
X, Y, TEST_X, TEST_Y = digits()


class Lit(pl.LightningModule):
    """A loss module as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.loss = nn.CrossEntropyLoss()

    def predicted(self, x: Tensor) -> Tensor:
        return self.net(x)

    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        return self.loss(output, y)

    def training_step(self, batch: Any, index: int) -> Any:
        output = self.predicted(batch[0])
        return {"loss": self.computed(output, batch[1]), "output": output}

    def validation_step(self, batch: Any, index: int) -> None:
        output = self.predicted(batch[0])
        self.log("loss", self.computed(output, batch[1]))
        self.log("accuracy", (output.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Functional(Lit):
    """A function, called in the step."""

    def __init__(self) -> None:
        super().__init__()
        del self.loss

    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y)


class Own(Functional):
    """The network is the LightningModule itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = self.net.one, self.net.two, self.net.head
        del self.net

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)))

    def predicted(self, x: Tensor) -> Tensor:
        return self(x)


class Attribute(Functional):
    """A function as an attribute, of a name that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.how_bad = F.cross_entropy

    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        return self.how_bad(output, y)


KINDS = (Lit, Functional, Own, Attribute)


def made(kind: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return kind()


def net_of(module: Any) -> nn.Module:
    return getattr(module, "net", module)


def trainer(folder: Path, *callbacks: Any, package: Any = pl, **settings: Any) -> Any:
    plain = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    return package.Trainer(callbacks=list(callbacks), **{**plain, **settings})


def loader(x: Tensor = X, y: Tensor = Y, **settings: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), **{"batch_size": BATCH, **settings})


def by_hand(method: Any = METHOD, seed: int = 0) -> nn.Module:
    """One epoch of the same, without a trainer."""
    module = made(Lit, seed)
    net, (optimizers, schedules) = module.net, module.configure_optimizers()
    criterion = Mixer(net, method, PLACES).loss(nn.CrossEntropyLoss())
    for start in range(0, TRAIN, BATCH):
        optimizers[0].zero_grad()
        criterion(net(X[start : start + BATCH]), Y[start : start + BATCH]).backward()
        optimizers[0].step()
        schedules[0]["scheduler"].step()
    return net


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Probe(pl.Callback):
    """Compares each step with the net as it was before."""

    def __init__(self, mixing: Any, net: nn.Module | None = None) -> None:
        self.mixing, self.net, self.steps = mixing, net, 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.before = Net()
        self.before.load_state_dict((self.net or net_of(pl_module)).state_dict())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
        assert self.mixing.mixer is not None
        perm = self.mixing.mixer.last.perm
        check_swapped(self.before, *batch, outputs["output"].detach(), outputs["loss"].detach(), perm)
        self.steps += 1


def inventory(module: nn.Module) -> list[Any]:
    """Every attribute of every module, by identity; what Lightning itself leaves is not looked at."""
    lightnings = {
        "_trainer",
        "_hparams",
        "_param_requires_grad_state",
        "_current_fx_name",
        "_metric_attributes",
    }
    return [
        {
            name: {key: id(item) for key, item in value.items()} if isinstance(value, dict) else value
            for name, value in vars(child).items()
            if name not in lightnings
        }
        for child in module.modules()
    ]
