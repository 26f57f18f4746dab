"""accelerate: the documented lines, wrap before prepare, and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers.torch import Mixer
from tests.trainers.digits_scene import BATCH, EPOCHS, METHOD, PLACES, STEPS, Net, Swap, check_swapped, digits

X, Y, TEST_X, TEST_Y = digits()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """accelerate keeps its settings for the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Run:
    """A loop as accelerate's own documentation writes it."""

    def __init__(self, method: Any = METHOD, **settings: Any) -> None:
        set_seed(0)
        self.accelerator = Accelerator(cpu=True, **settings)
        net = Net()
        self.mixer = Mixer(net, method, layers=list(PLACES))
        self.criterion = self.mixer.loss(nn.CrossEntropyLoss())
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        loader = DataLoader(TensorDataset(X, Y), BATCH, shuffle=True)
        self.net, self.optimizer, self.loader = self.accelerator.prepare(net, optimizer, loader)
        self.accelerator.register_for_checkpointing(self.mixer)

    def epoch(self) -> None:
        self.net.train()
        for x, y in self.loader:
            with self.accelerator.accumulate(self.net):
                loss = self.criterion(self.net(x), y)
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()

    def accuracy(self) -> float:
        self.net.eval()
        with torch.no_grad():
            return (self.net(TEST_X).argmax(1) == TEST_Y).float().mean().item()


@pytest.mark.parametrize("settings", [{}, {"mixed_precision": "bf16", "gradient_accumulation_steps": 2}])
def test_digits_to_the_accuracy_of_a_plain_run(settings: dict[str, Any]) -> None:
    run = Run(**settings)
    for _ in range(EPOCHS):
        run.epoch()
    assert run.accuracy() > 0.945
    assert run.mixer.history.mixed == STEPS and set(run.mixer.history.counts) == set(PLACES)


def test_features_and_labels_are_swapped_alike() -> None:
    run = Run(Swap())
    for x, y in run.loader:
        output = run.net(x)
        loss = run.criterion(output, y)
        perm = run.mixer.last.perm
        loss.backward()
        run.mixer._implicit = False  # what follows is not to be mixed
        check_swapped(run.net, x, y, output, loss, perm)
        run.mixer._implicit = True


def test_resume_from_its_checkpoint_is_exact(tmp_path: Path) -> None:
    whole = Run()
    whole.epoch()
    whole.accelerator.save_state(tmp_path)
    whole.epoch()
    resumed = Run()
    resumed.accelerator.load_state(tmp_path)
    assert resumed.mixer.step == STEPS // EPOCHS
    resumed.epoch()
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name
