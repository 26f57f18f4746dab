"""A training that is killed, and goes on from its last checkpoint: plain, in Lightning, with accelerate.

    python resume_scene.py LOOP FOLDER KILLED_AT

Every third step is saved, so that the last steps before the kill are lost and run again. The kill is SIGKILL,
between a step's backward and its update.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixlayers import ManifoldMixup, OneOf, PatchUp
from mixlayers.torch import Mixer
from tests.trainers.digits_scene import BATCH, TRAIN, Net, digits

METHOD = OneOf({ManifoldMixup(): 1, PatchUp("soft", portion=0.3): 1}, prob=0.9)
PLACES = ("one", "two")
EPOCH, EPOCHS, EVERY = TRAIN // BATCH, 2, 3
X, Y, *_ = digits()


def start() -> tuple[Net, torch.optim.Optimizer]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Net()
    return net, torch.optim.Adam(net.parameters(), 2e-3)


def order(epoch: int) -> Tensor:
    return torch.randperm(TRAIN, generator=torch.Generator().manual_seed(epoch))


def kill_at(step: int | None, now: int) -> None:
    if now == step:
        os.kill(os.getpid(), signal.SIGKILL)


def plain(folder: Path, killed_at: int | None) -> nn.Module:
    net, optimizer = start()
    mixer = Mixer(net, METHOD, PLACES)
    criterion = mixer.loss(nn.CrossEntropyLoss())
    parts, file = {"net": net, "optimizer": optimizer, "mixer": mixer}, folder / "last.pt"
    if file.exists():
        saved = torch.load(file)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for step in range(mixer.step, EPOCHS * EPOCH):
        batch = order(step // EPOCH)[BATCH * (step % EPOCH) :][:BATCH]
        optimizer.zero_grad()
        criterion(net(X[batch]), Y[batch]).backward()
        kill_at(killed_at, step)
        optimizer.step()
        if mixer.step % EVERY == 0:
            torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "new.pt")
            os.replace(folder / "new.pt", file)  # whole or not at all
    return net


class Batches:
    """Batches in an order of each epoch's own, which remember how far they got; as Lightning asks of a loader."""

    def __init__(self) -> None:
        self.done = self.first = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first, self.first = self.first, 0
        epoch = self.done // EPOCH
        for number in range(first, EPOCH):
            batch = order(epoch)[BATCH * number :][:BATCH]
            self.done += 1
            yield X[batch], Y[batch]

    def __len__(self) -> int:
        return EPOCH

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done, self.first = state["done"], state["done"] % EPOCH


def lightning(folder: Path, killed_at: int | None) -> nn.Module:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from mixlayers.trainers.lightning import Mixing

    class Lit(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.optimizer = start()
            self.loss = nn.CrossEntropyLoss()

        def training_step(self, batch: Any, index: int) -> Tensor:
            return self.loss(self.net(batch[0]), batch[1])

        def on_after_backward(self) -> None:
            kill_at(killed_at, self.global_step)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

    saved = sorted(folder.glob("*.ckpt"))
    saving = ModelCheckpoint(folder, "{step:03}", save_top_k=-1, every_n_train_steps=EVERY)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[Mixing(METHOD, PLACES), saving],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Lit()
    trainer.fit(module, Batches(), ckpt_path=saved[-1] if saved else None)
    return module.net


def accelerate(folder: Path, killed_at: int | None) -> nn.Module:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import ProjectConfiguration, set_seed

    AcceleratorState._reset_state(reset_partial_state=True)  # another test's precision would go on
    accelerator = Accelerator(cpu=True, project_config=ProjectConfiguration(str(folder)))
    net, optimizer = start()
    mixer = Mixer(net, METHOD, PLACES)
    accelerator.register_for_checkpointing(mixer)
    criterion = mixer.loss(nn.CrossEntropyLoss())
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), BATCH, shuffle=True)
    net, optimizer, batches = accelerator.prepare(net, optimizer, batches)
    saved = sorted(folder.glob("step*"))
    if saved:
        accelerator.load_state(saved[-1])
    for epoch in range(mixer.step // EPOCH, EPOCHS):
        set_seed(epoch)  # of the shuffling
        done = mixer.step - EPOCH * epoch
        for x, y in accelerator.skip_first_batches(batches, done) if done else batches:
            optimizer.zero_grad()
            accelerator.backward(criterion(net(x), y))
            kill_at(killed_at, mixer.step - 1)
            optimizer.step()
            if mixer.step % EVERY == 0:
                accelerator.save_state(folder / "new")
                os.replace(folder / "new", folder / f"step{mixer.step:03}")
    return net


LOOPS: dict[str, Callable[[Path, int | None], nn.Module]] = {
    "plain": plain,
    "lightning": lightning,
    "accelerate": accelerate,
}

if __name__ == "__main__":
    LOOPS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
