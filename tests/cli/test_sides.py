"""What the demo asks of a framework: every side does the same with the same numbers."""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from mixlayers.cli import sides
from mixlayers.cli.methods import METHODS
from mixlayers.cli.network import initial_weights
from mixlayers.cli.train import one_cycle

RNG = np.random.default_rng(0)
IMAGES = RNG.random((24, 1, 28, 28), dtype=np.float32)
LABELS = RNG.permutation(np.arange(24) % 10)


@pytest.fixture(params=sides.FRAMEWORKS)
def side(request: pytest.FixtureRequest) -> Any:
    import_module(f"mixlayers.{request.param}")  # which helps Chainer to be imported
    return sides.side(request.param)


@pytest.fixture(scope="module")
def torch_side() -> Any:
    return sides.side("torch")


@cache
def trained(side: Any, name: str, steps: int = 3) -> tuple[Any, list[float]]:
    learner, entry = side.Learner(initial_weights(1)), METHODS[name]
    if entry.method is not None:
        learner.mix(entry.method, entry.layers, 1)
    return learner, [learner.step(IMAGES, LABELS, *one_cycle(step, 8))[0] for step in range(steps)]


COMPILED = {
    "jax": ("plain", "cutmix", "manifold", "patchup-hard", "align", "mixstyle", "noisy"),
    "keras": ("plain", "cutmix", "manifold"),
}
"""Where each method costs a compilation, one of a kind: tests/jax and tests/keras hold them all to mixing by hand."""


@pytest.mark.parametrize(
    ("side", "name"),
    [(framework, name) for framework in sides.FRAMEWORKS for name in COMPILED.get(framework, METHODS)],
    indirect=["side"],
)
def test_losses_are_pytorchs(side: Any, torch_side: Any, name: str) -> None:
    rtol = 1e-2 if name == "noisy" else 1e-4  # whose noise is each framework's own
    np.testing.assert_allclose(trained(side, name)[1], trained(torch_side, name)[1], rtol=rtol)


def test_a_step_tells_its_target(side: Any) -> None:
    learner = side.Learner(initial_weights(1))
    assert learner.step(IMAGES, LABELS, 0.1, 0.9)[1] is None
    learner.mix(METHODS["mixup"].method, METHODS["mixup"].layers, 1)
    target = learner.step(IMAGES, LABELS, 0.1, 0.9)[1]
    assert target.layer == "input" and 0.0 < target.lam < 1.0


def test_a_step_at_several_places_tells_where_it_acted(side: Any) -> None:
    learner = side.Learner(initial_weights(1))
    learner.mix(METHODS["mixstyle"].method, METHODS["mixstyle"].layers, 1)
    layers = {learner.step(IMAGES, LABELS, 0.01, 0.9)[1].layer for _ in range(6)}
    assert layers == {None, "layer1", "layer2"}


def test_probabilities_are_pytorchs_and_change_nothing(side: Any, torch_side: Any) -> None:
    (learner, _), (other, _) = trained(side, "plain"), trained(torch_side, "plain")
    before = {name: value.copy() for name, value in learner.state().items()}
    found = learner.probabilities(IMAGES)
    assert found.dtype == np.float64 and found.shape == (24, 10)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found, other.probabilities(IMAGES), rtol=1e-2, atol=1e-3)
    assert all(np.array_equal(value, before[name]) for name, value in learner.state().items())
    assert getattr(learner.network, "training", True)  # Keras tells each call


def test_fgsm_raises_the_loss_by_epsilon_and_stays_in_range(side: Any) -> None:
    learner, _ = trained(side, "plain")
    moved = learner.attacked(IMAGES, LABELS, 0.1)
    assert moved.dtype == np.float32 and moved.min() >= 0.0 and moved.max() <= 1.0
    inside = (moved > 0.0) & (moved < 1.0)
    np.testing.assert_allclose(np.abs(moved - IMAGES)[inside], 0.1, rtol=1e-4)
    rows = np.arange(24), LABELS
    assert learner.probabilities(moved)[rows].mean() < learner.probabilities(IMAGES)[rows].mean()
    assert getattr(learner.network, "training", True)  # Keras tells each call


def test_the_pictures_get_what_the_library_mixes(side: Any, torch_side: Any) -> None:
    (learner, _), (other, _) = trained(side, "plain"), trained(torch_side, "plain")
    for name in ("mixup", "cutmix"):
        for one, two in zip(
            side.mix_input(IMAGES, LABELS, METHODS[name].method, 3),
            torch_side.mix_input(IMAGES, LABELS, METHODS[name].method, 3),
            strict=True,
        ):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    clean = side.hidden(learner.state(), IMAGES, LABELS, None, 0)
    mixed = side.hidden(learner.state(), IMAGES, LABELS, METHODS["patchup-hard"].method, 3)
    assert clean.shape == mixed.shape == (24, 16, 14, 14) and not np.allclose(clean, mixed)
    theirs = torch_side.hidden(other.state(), IMAGES, LABELS, METHODS["patchup-hard"].method, 3)
    np.testing.assert_allclose(mixed, theirs, rtol=1e-2, atol=1e-2)


def test_one_cycle_is_pytorchs() -> None:
    import torch

    for total in (2, 3, 5, 10, 200):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1, momentum=0.9)
        if total == 5:  # PyTorch divides by zero
            assert one_cycle(0, total)[0] == pytest.approx(0.1)
            continue
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total, pct_start=0.2)
        for step in range(total):
            group = optimizer.param_groups[0]
            assert one_cycle(step, total) == pytest.approx((group["lr"], group["momentum"]), rel=1e-6)
            optimizer.step()
            if step + 1 < total:
                schedule.step()
