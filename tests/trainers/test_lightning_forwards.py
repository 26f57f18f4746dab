"""Several forwards, batches or losses in one training step: each loss gets the plan of its own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn

from mixlayers.torch import get_mixer
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import METHOD, PLACES, Net
from tests.trainers.lightning_scene import NOISE, Functional, X, Y, by_hand, loader, made, same, trainer

pytestmark = pytest.mark.filterwarnings(NOISE)


def mixed_by_hand(net: Any, x: Tensor, y: Tensor, step: int) -> Tensor:
    """The loss of one forward with a step's plan, written out."""
    plan = METHOD.plan(step=step, batch_size=len(x), places=PLACES)
    perm = torch.as_tensor(plan.perm)
    h = x
    for place in PLACES:
        h = h if place == "input" else getattr(net, place)(h)
        h = plan.lam * h + (1 - plan.lam) * h[perm] if place == plan.place else h
    output = net.head(h)
    return plan.lam * F.cross_entropy(output, y) + (1 - plan.lam) * F.cross_entropy(output, y[perm])


class Compares(Functional):
    """Compares the loss of each step, and its gradients, with those by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def training_step(self, batch: Any, index: int) -> Tensor:
        twin = Net()
        twin.load_state_dict(self.net.state_dict())
        loss, expected = self.mine(batch), self.hand(twin, batch)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        got = torch.autograd.grad(loss, list(self.net.parameters()), retain_graph=True)
        wanted = torch.autograd.grad(expected, list(twin.parameters()))
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        self.steps += 1
        return loss

    def hand(self, twin: Any, batch: Any) -> Tensor:
        return mixed_by_hand(twin, *batch, self.steps)


class Pseudo(Compares):
    """Runs the net without gradients before, between and after: pseudo-labels, a metric."""

    def mine(self, batch: Any) -> Tensor:
        x, y = batch
        with torch.no_grad():
            twice = [self.net(x).argmax(1) for _ in range(2)]
        output = self.net(x)
        with torch.no_grad():
            clean = self.net(x)
            twin = F.cross_entropy(clean, y)
        loss = F.cross_entropy(output, y)
        assert torch.equal(F.cross_entropy(clean, y), twin) and torch.equal(*twice)
        return loss


class Late(Compares):
    """Two forwards, then both losses, the second first."""

    def mine(self, batch: Any) -> Tensor:
        x, y = batch
        first, second = self.net(x), self.net(-x[:20])
        return F.cross_entropy(second, y[:20]) + nn.CrossEntropyLoss()(first, y)

    def hand(self, twin: Any, batch: Any) -> Tensor:
        x, y = batch
        first = mixed_by_hand(twin, x, y, 2 * self.steps)
        return first + mixed_by_hand(twin, -x[:20], y[:20], 2 * self.steps + 1)


class Halves(Late):
    """The same of a CombinedLoader's batch."""

    def mine(self, batch: Any) -> Tensor:
        outputs = {name: self.net(x) for name, (x, _) in batch.items()}
        return sum(F.cross_entropy(outputs[name], y) for name, (_, y) in batch.items())

    def hand(self, twin: Any, batch: Any) -> Tensor:
        return sum(mixed_by_hand(twin, *pair, 2 * self.steps + i) for i, pair in enumerate(batch.values()))


def combined() -> Any:
    return CombinedLoader(
        {"a": loader(X[:200], Y[:200]), "b": loader(X[200:], Y[200:], batch_size=30)}, "min_size"
    )


@pytest.mark.parametrize(("kind", "data"), [(Pseudo, loader), (Late, loader), (Halves, combined)])
def test_each_loss_gets_the_plan_of_its_own_forward(tmp_path: Path, kind: Any, data: Any) -> None:
    module = made(kind)
    trainer(tmp_path, Mixing(METHOD, PLACES)).fit(module, data())
    assert module.steps == (4 if kind is Halves else 8)


def test_forwards_without_gradients_change_nothing(tmp_path: Path) -> None:
    class Looks(Functional):
        def predicted(self, x: Tensor) -> Tensor:
            training = self.net.training
            self.net.eval()
            with torch.no_grad():
                self.net(x)
            self.net.train(training)
            return super().predicted(x)

    module = made(Looks)
    trainer(tmp_path, Mixing(METHOD, PLACES)).fit(module, loader())
    assert same(module.net, by_hand())


def test_labels_of_a_part_of_the_batch(tmp_path: Path) -> None:
    """FixMatch puts labelled and unlabelled samples into one batch: no label is there for some partners."""

    class Concatenated(Functional):
        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.net(torch.cat((x, x + 0.1, x + 0.2)))[: len(y)], y)

    with pytest.raises(
        ValueError, match=r"150 samples, but the target has shape \(50,\).*call the model on each part"
    ):
        trainer(tmp_path, Mixing(METHOD, PLACES)).fit(made(Concatenated), loader())


def test_fixmatch_part_by_part(tmp_path: Path) -> None:
    """As the page writes it: pseudo-labels from clean forwards, a mask by ignore_index, a sum."""

    class FixMatch(Compares):
        def pseudo(self, net: Any, x: Tensor) -> Tensor:
            with torch.no_grad():
                sure, y = net(x + 0.1).softmax(1).max(1)
            return torch.where(sure > 0.11, y, -100)

        def mine(self, batch: Any) -> Tensor:
            x, y = batch
            pseudo = self.pseudo(self.net, x)
            strong = F.cross_entropy(self.net(x + 0.2), pseudo, reduction="sum") / len(x)
            return F.cross_entropy(self.net(x), y) + strong

        def hand(self, twin: Any, batch: Any) -> Tensor:
            x, y = batch
            pseudo = self.pseudo(twin, x)
            plan = METHOD.plan(step=2 * self.steps, batch_size=len(x), places=PLACES)
            perm, h = torch.as_tensor(plan.perm), x + 0.2
            for place in PLACES:
                h = h if place == "input" else getattr(twin, place)(h)
                h = plan.lam * h + (1 - plan.lam) * h[perm] if place == plan.place else h
            output = twin.head(h)
            strong = plan.lam * F.cross_entropy(output, pseudo, reduction="sum")
            strong = strong + (1 - plan.lam) * F.cross_entropy(output, pseudo[perm], reduction="sum")
            return mixed_by_hand(twin, x, y, 2 * self.steps + 1) + strong / len(x)

    module = made(FixMatch)
    trainer(tmp_path, Mixing(METHOD, PLACES)).fit(module, loader())
    assert module.steps == 8


def test_r_drop_shares_a_plan(tmp_path: Path) -> None:
    class RDrop(Functional):
        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            mixer = get_mixer(self.net)
            with mixer.same_plan():
                one, other = self.net(x), self.net(x)
            assert mixer.step == index + 1
            torch.testing.assert_close(one, other), "mixed alike"
            return F.cross_entropy(one, y) + F.cross_entropy(other, y)

    trainer(tmp_path, Mixing(METHOD, PLACES)).fit(made(RDrop), loader())


class Closure(Functional):
    """LBFGS runs the whole training step several times on a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, float]] = []

    def training_step(self, batch: Any, index: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.record(index, loss)
        loss = loss + F.cross_entropy(self.net(-x[:20]), y[:20])
        self.record(index, loss)
        return loss

    def record(self, index: int, loss: Tensor) -> None:
        plan = get_mixer(self.net).last
        self.seen.append((index, plan.step, plan.lam))

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), 0.01, max_iter=3)


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}])
def test_the_closures_of_one_batch_share_their_plans(tmp_path: Path, settings: Any) -> None:
    """Each forward in it has a plan of its own still, and so has each batch, also an accumulated one."""
    module, mixing = made(Closure), Mixing(METHOD, PLACES)
    trainer(tmp_path, mixing, max_epochs=2, **settings).fit(module, loader())
    assert mixing.state_dict()["step"] == 32
    assert len(module.seen) > 32, "the closure ran several times a batch"
    for number in range(16):
        epoch, index = divmod(number, 8)
        plans = {(step, lam) for i, step, lam in module.seen if i == index and step // 16 == epoch}
        sizes = {2 * number: 50, 2 * number + 1: 20}
        assert plans == {
            (step, METHOD.plan(step=step, batch_size=size, places=PLACES).lam) for step, size in sizes.items()
        }
