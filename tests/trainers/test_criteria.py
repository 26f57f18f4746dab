"""Criteria that somebody compiled or patched before or after `mixer.loss`: blended all the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from mixlayers import MixingError
from mixlayers.torch import Mixer
from tests.trainers.digits_scene import METHOD, PLACES, Net, digits

BACKEND = "aot_eager"
X, Y, *_ = digits()
X, Y = X[:50], Y[:50]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    torch._dynamo.reset()
    AcceleratorState._reset_state(reset_partial_state=True)


class Scaled(nn.Module):
    """A criterion with a parameter and an argument of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, output: Tensor, target: Tensor, power: float = 1.0) -> Tensor:
        return self.scale**power * F.cross_entropy(output, target)


def compiled(criterion: nn.Module) -> Any:
    return torch.compile(criterion, backend=BACKEND)


def compiled_in_place(criterion: nn.Module) -> nn.Module:
    criterion.compile(backend=BACKEND)
    return criterion


def patched(criterion: nn.Module) -> nn.Module:
    """Another forward on the instance: it halves."""
    before = criterion.forward
    criterion.forward = lambda *args, **kwargs: 0.5 * before(*args, **kwargs)
    return criterion


def prepared(criterion: nn.Module) -> Any:
    return Accelerator(cpu=True, mixed_precision="bf16").prepare(criterion)


CHANGES = (compiled, compiled_in_place, patched, prepared)


def mixed_step(criterion: Any, change: Callable[..., Any], order: str) -> tuple[Any, ...]:
    """A step with the changed criterion, and by hand with a plain one: losses and gradients."""
    torch.manual_seed(0)
    net = Net()
    plain = copy.deepcopy(net)
    own = copy.deepcopy(criterion)
    mixer = Mixer(net, METHOD, PLACES)
    blended = mixer.loss(change(criterion)) if order == "before" else change(mixer.loss(criterion))
    for _ in range(3):  # plans of several places, and lams
        output = net(X)
        plan = mixer.last
        loss = blended(output, Y)
        loss.backward()
        h = X
        perm = torch.as_tensor(plan.perm)
        for place in PLACES:
            h = h if place == "input" else getattr(plain, place)(h)
            h = plan.lam * h + (1 - plan.lam) * h[perm] if place == plan.place else h
        logits = plain.head(h)
        by_hand = plan.lam * own(logits, Y) + (1 - plan.lam) * own(logits, Y[perm])
        if change is patched:
            by_hand = 0.5 * by_hand
        by_hand.backward()
        torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)
    return net, plain, criterion, own, blended


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss, partial(nn.CrossEntropyLoss, label_smoothing=0.1), Scaled]
)
def test_value_and_gradients(criterion: Any, change: Callable[..., Any], order: str) -> None:
    net, plain, changed, own, blended = mixed_step(criterion(), change, order)
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    for one, other in zip(changed.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    net.eval()
    clean = net(X)
    factor = 0.5 if change is patched else 1.0
    torch.testing.assert_close(blended(clean, Y), factor * own(clean, Y), rtol=1e-4, atol=1e-5)


def test_a_criterion_that_already_blends_is_told_compiled_or_not() -> None:
    mixer = Mixer(Net(), METHOD, PLACES)
    for criterion in (mixer.loss(nn.CrossEntropyLoss()), mixer.loss(F.cross_entropy)):
        with pytest.raises(ValueError, match="already blends"):
            mixer.loss(criterion)


def test_the_closures_of_a_plain_loop() -> None:
    """LBFGS by hand: one block for each batch; the loss of a plan goes down, as the closure's line search needs."""
    torch.manual_seed(0)
    net = Net()
    mixer = Mixer(net, METHOD, PLACES)
    criterion = mixer.loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.LBFGS(net.parameters(), 0.01, max_iter=4)
    plans: list[Any] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = criterion(net(X), Y)
        plans.append(mixer.last)
        loss.backward()
        return loss

    for step in range(3):
        plans.clear()
        with mixer.same_plan():
            optimizer.step(closure)
        assert len(plans) > 1 and {plan.step for plan in plans} == {step}
    output = net(X)
    with pytest.raises(MixingError, match="no loss used"):
        F.cross_entropy(output, Y).backward()
