"""Real models: wrapping leaves the object what it was; copies and files carry a mixer of their own."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixlayers import ManifoldMixup
from mixlayers.torch import get_mixer, unwrap, wrap
from tests.torch.models import BATCH, CASES, CLASSES, logits, make

NAMES = [name for name, case in CASES.items() if case.auto]
LABELS = torch.arange(BATCH) % CLASSES


def wrapped(name: str) -> tuple[nn.Module, dict[str, Any]]:
    model, inputs = make(name)
    method = ManifoldMixup(pairs="derangement")
    return wrap(model, method, layers=CASES[name].auto, batch_dim=CASES[name].batch_dim), inputs


def mixed_step(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    torch.manual_seed(1)
    output, target = model.train()(**inputs, target=LABELS)
    target.blend(lambda y: F.cross_entropy(logits(output), y)).backward()
    assert target.mixed
    return logits(output).detach()


def attributes(model: nn.Module) -> dict[str, Any]:
    """What every module holds, but for hooks, gradients and modes."""
    return {
        f"{name}.{key}": id(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if "hooks" not in key and key != "training"
    }


def hooks(model: nn.Module) -> dict[str, int]:
    """The number of hooks of each kind on every module."""
    return {
        f"{name}.{key}": len(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if "hooks" in key and value is not None
    }


@pytest.mark.parametrize("name", NAMES)
def test_wrapping_leaves_the_model_as_it_was(name: str) -> None:
    model, inputs = make(name)
    model(**inputs)
    keys, kind, before = list(model.state_dict()), type(model), attributes(model)
    signature = inspect.signature(model.forward)
    same = wrap(model, ManifoldMixup(pairs="derangement"), example=inputs, batch_dim=CASES[name].batch_dim)
    mixed_step(model, inputs)
    assert same is model
    assert type(model) is kind
    assert list(model.state_dict()) == keys
    assert attributes(model) == before
    assert inspect.signature(model.forward) == signature


@pytest.mark.parametrize("name", NAMES)
def test_unwrapped_is_as_before(name: str) -> None:
    model, inputs = make(name)
    with torch.no_grad():
        before, hooks_before = logits(model(**inputs)), hooks(model)
        state = copy.deepcopy(model.state_dict())
        wrap(model, example=inputs, batch_dim=CASES[name].batch_dim)
        assert hooks(model) != hooks_before
        assert torch.equal(logits(model(**inputs)), before)
    mixed_step(model, inputs)
    unwrap(model).eval().load_state_dict(state)
    assert hooks(model) == hooks_before
    with torch.no_grad():
        assert torch.equal(logits(model(**inputs)), before)


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_has_its_own_mixer_and_weights(name: str) -> None:
    model, inputs = wrapped(name)
    mixed_step(model, inputs)
    model.zero_grad()
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.zero_()
    assert not mixed_step(copied, inputs).any()
    assert (get_mixer(model).step, get_mixer(copied).step) == (1, 2)
    assert all(weight.grad is None for weight in model.parameters())
    assert mixed_step(model, inputs).any()
    assert (get_mixer(model).step, get_mixer(copied).step) == (2, 2)


def by_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def by_torch(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = [(name, by_torch) for name in NAMES if name != "diaresnet20"] + [  # that one holds a lambda
    (name, copies)
    for name in ("resnet20", "hf-bert", "lstm", "mlp", "sequence-first")
    for copies in (by_pickle, copy.deepcopy)
]


@pytest.mark.parametrize(("name", "copies"), COPIES)
def test_copies_go_on_where_the_model_was(name: str, copies: Callable[[nn.Module], nn.Module]) -> None:
    model, inputs = wrapped(name)
    mixed_step(model, inputs)
    copied = copies(model)
    assert get_mixer(copied) is not get_mixer(model)
    first = mixed_step(model, inputs)
    torch.testing.assert_close(mixed_step(copied, inputs), first, rtol=1e-5, atol=1e-5)
    mine, theirs = get_mixer(model).last, get_mixer(copied).last
    assert mine is not None
    assert theirs is not None
    assert theirs.to_dict() == mine.to_dict()
    assert mine.step == 1


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, config: Any) -> Tensor:
        return self.head(self.trunk(x))


def test_what_a_call_was_given_is_in_no_pickle() -> None:
    class Local:
        """Of a kind that pickle refuses."""

    model, labels = wrap(Configured(), layers=["trunk"]), torch.arange(4) % 2
    model(torch.randn(4, 3), Local(), target=labels)
    assert get_mixer(by_pickle(model)).step == 1
