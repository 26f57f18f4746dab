"""ignite: the documented lines, and its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from digits_scene import BATCH, EPOCHS, METHOD, PLACES, STEPS, Net, Swap, check_swapped, digits
from ignite.engine import DeterministicEngine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers.torch import Mixer

X, Y, TEST_X, TEST_Y = digits()


class Run:
    """A trainer as ignite's own documentation writes it."""

    def __init__(self, method: Any = METHOD) -> None:
        torch.manual_seed(0)
        self.net = Net()
        self.mixer = Mixer(self.net, method, layers=list(PLACES))
        optimizer = torch.optim.Adam(self.net.parameters(), 5e-3)
        criterion = self.mixer.loss(nn.CrossEntropyLoss())
        self.outputs: list[Any] = []
        self.trainer = create_supervised_trainer(
            self.net, optimizer, criterion, deterministic=True, output_transform=lambda *step: step
        )
        assert isinstance(self.trainer, DeterministicEngine)
        self.evaluator = create_supervised_evaluator(
            self.net, metrics={"accuracy": Accuracy(), "loss": Loss(criterion)}
        )
        self.loader = DataLoader(TensorDataset(X, Y), BATCH, shuffle=True)
        self.state = {"net": self.net, "optimizer": optimizer, "mixer": self.mixer, "trainer": self.trainer}


def test_digits_to_the_accuracy_of_a_plain_run() -> None:
    run = Run()
    run.trainer.run(run.loader, max_epochs=EPOCHS)
    metrics = run.evaluator.run(DataLoader(TensorDataset(TEST_X, TEST_Y), 200)).metrics
    assert metrics["accuracy"] > 0.945
    with torch.no_grad():
        plain = nn.functional.cross_entropy(run.net.eval()(TEST_X), TEST_Y)
    assert abs(metrics["loss"] - plain.item()) < 1e-5, "validation is not mixed"
    assert run.mixer.history.mixed == STEPS and set(run.mixer.history.counts) == set(PLACES)


def test_features_and_labels_are_swapped_alike() -> None:
    run = Run(Swap())
    optimizer = run.state["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    seen: list[Any] = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.append((engine.state.output, run.mixer.last))
    )
    run.trainer.run(run.loader, max_epochs=1)
    run.mixer._implicit = False  # what follows is not to be mixed
    assert len(seen) == STEPS // EPOCHS
    for (x, y, output, loss), plan in seen:
        check_swapped(run.net, x, y, output, loss, plan.perm)


def test_resume_from_its_checkpoint_is_exact(tmp_path: Path) -> None:
    whole = Run()
    handler = Checkpoint(whole.state, DiskSaver(tmp_path, require_empty=False), n_saved=None)
    whole.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), handler)
    whole.trainer.run(whole.loader, max_epochs=3)
    (saved,) = tmp_path.glob("*.pt")
    resumed = Run()
    Checkpoint.load_objects(resumed.state, torch.load(saved, weights_only=False))
    assert resumed.mixer.step == STEPS // EPOCHS
    resumed.trainer.run(resumed.loader, max_epochs=3)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name
