"""ignite: the documented lines, and its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import DeterministicEngine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers.torch import Mixer, unwrap
from tests.trainers.digits_scene import BATCH, EPOCHS, METHOD, PLACES, STEPS, Net, Swap, check_swapped, digits

X, Y, TEST_X, TEST_Y = digits()


class Run:
    """A trainer as ignite's own documentation writes it."""

    def __init__(self, method: Any = METHOD) -> None:
        torch.manual_seed(0)
        self.net = Net()
        self.mixer = Mixer(self.net, method, layers=list(PLACES))
        optimizer = torch.optim.Adam(self.net.parameters(), 5e-3)
        self.criterion = criterion = self.mixer.loss(nn.CrossEntropyLoss())
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


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["in the forward", "between batches"])
def test_a_run_that_broke_off_can_be_gone_on_with_or_unwrapped(where: str, error: Any) -> None:
    run = Run()

    def fail(*event: Any) -> None:
        if run.mixer.step == 3:
            raise error

    handle = run.net.head.register_forward_pre_hook(fail) if where == "in the forward" else None
    if handle is None:
        removable = run.trainer.add_event_handler(Events.ITERATION_COMPLETED, fail)
    with pytest.raises(error):
        run.trainer.run(run.loader, max_epochs=1)
    handle.remove() if handle is not None else removable.remove()
    again = create_supervised_trainer(
        run.net, run.state["optimizer"], run.criterion, output_transform=lambda *step: step
    )
    again.run(run.loader, max_epochs=1)
    assert run.mixer.step == 3 + 8
    (_, y, output, loss), plan = again.state.output, run.mixer.last
    losses = [nn.functional.cross_entropy(output, labels) for labels in (y, y[torch.as_tensor(plan.perm)])]
    torch.testing.assert_close(loss, plan.lam * losses[0] + (1 - plan.lam) * losses[1])
    plain = Net()
    plain.load_state_dict(run.net.state_dict())
    net = unwrap(run.net).train()
    for _ in range(2):
        torch.testing.assert_close(net(X), plain(X))
        nn.functional.cross_entropy(net(X), Y).backward()
