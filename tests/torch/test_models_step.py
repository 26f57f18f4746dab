"""Real models: a mixed training step is what a plain hook, written by hand, makes of the same plan."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from transformers.utils import ModelOutput

from mixlayers import ManifoldMixup, MixPlan, PatchUp
from mixlayers._core.methods.method import Method
from mixlayers.torch import get_mixer, wrap
from tests.torch.models import BATCH, CASES, CLASSES, logits, make
from tests.torch.swap import changed

LABELS = torch.arange(BATCH) % CLASSES
MANIFOLD = ManifoldMixup(pairs="derangement")
PATCHES = PatchUp("hard", block_size=3, pairs="derangement")
STEPS = [(name, place, MANIFOLD) for name, case in CASES.items() for place in case.auto] + [
    (name, place, PATCHES) for name, case in CASES.items() if case.maps for place in case.auto[1:]
]


def ids(value: object) -> str:
    return type(value).__name__ if isinstance(value, Method) else str(value)


def exact(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The case in float64: in float32 a ReLU's kink and a norm over few values blow rounding up."""
    model, inputs = make(name)
    return model.double(), {key: x.double() if x.is_floating_point() else x for key, x in inputs.items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def mixed_by_hand(x: Tensor, plan: MixPlan, batch_dim: int) -> Tensor:
    x = x.movedim(batch_dim, 0)
    mixed = plan.lam * x + (1 - plan.lam) * x[torch.from_numpy(plan.perm)]
    mask = plan.blend(x.shape).mask
    mixed = mixed if mask is None else torch.where(torch.from_numpy(mask), mixed, x)
    return mixed.movedim(0, batch_dim)


def step_by_hand(
    model: nn.Module, inputs: dict[str, Any], plan: MixPlan, batch_dim: int
) -> tuple[Tensor, Tensor]:
    assert plan.place is not None
    shares = []

    def mix(x: Tensor) -> Tensor:
        mask = plan.blend(x.movedim(batch_dim, 0).shape).mask
        shares.append((1 - plan.lam) * (1 if mask is None else mask.mean()))
        return mixed_by_hand(x, plan, batch_dim)

    with changed(model, plan.place, mix, batch_dim):
        output = logits(model(**inputs))
    s = float(shares[0])
    partners = LABELS[torch.from_numpy(plan.perm)]
    loss = (1 - s) * F.cross_entropy(output, LABELS) + s * F.cross_entropy(output, partners)
    return output, loss


@pytest.mark.parametrize(("name", "place", "method"), STEPS, ids=ids)
def test_mixed_step_equals_one_by_hand(name: str, place: str, method: Method) -> None:
    model, inputs = exact(name)
    plain = copy.deepcopy(model.train())
    batch_dim = CASES[name].batch_dim
    wrap(model, method, layers=[place], batch_dim=batch_dim, seed=3)

    torch.manual_seed(1)
    output, target = model(**inputs, target=LABELS)
    loss = target.blend(lambda y: F.cross_entropy(logits(output), y))
    loss.backward()
    plan = get_mixer(model).last
    assert plan is not None
    assert plan.place == target.layer == place

    torch.manual_seed(1)  # the same dropout
    expected, expected_loss = step_by_hand(plain, inputs, plan, batch_dim)
    expected_loss.backward()
    assert loss.isfinite()
    same = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-9)
    same(logits(output), expected)
    same(loss, expected_loss)
    same(model.state_dict(), plain.state_dict())  # the norms' statistics, too
    same(gradients(model), gradients(plain))


CONTAINERS: list[tuple[str, str, type]] = [
    ("hf-bert", "bert.encoder", ModelOutput),
    ("hf-bert", "bert", ModelOutput),
    ("hf-distilbert", "distilbert", ModelOutput),
    ("hf-gpt2", "transformer", ModelOutput),
    ("hf-vit", "vit", ModelOutput),
    ("hf-swin", "swin.encoder", ModelOutput),
    ("hf-swin", "swin.encoder.layers.0", tuple),
    ("hf-resnet", "resnet", ModelOutput),
    ("hf-convnext", "convnext.encoder", ModelOutput),
    ("lstm", "cells", tuple),
    ("gru", "cells", tuple),
]


@pytest.mark.parametrize(("name", "layer", "kind"), CONTAINERS)
def test_containers_keep_their_type(name: str, layer: str, kind: type) -> None:
    model, inputs = make(name)
    outputs = []
    watch = lambda *call: outputs.append(call[-1])  # noqa: E731  # hooks run in order: before and after the mixer's
    module = model.train().get_submodule(layer)
    module.register_forward_hook(watch)
    wrap(model, MANIFOLD, layers=[layer])
    module.register_forward_hook(watch)
    _, target = model(**inputs, target=LABELS)
    target.blend(lambda y: y * 1.0)
    before, after = outputs[-2:]  # the audit's run came first
    assert isinstance(before, kind)
    assert type(after) is type(before)
    tensors, structure = tree_flatten(before)
    mixed, same_structure = tree_flatten(after)
    assert same_structure == structure
    assert [getattr(x, "shape", x) for x in mixed] == [getattr(x, "shape", x) for x in tensors]
    assert not torch.equal(mixed[0], tensors[0])
    plan = get_mixer(model).last
    assert plan is not None
    torch.testing.assert_close(mixed[0], mixed_by_hand(tensors[0], plan, 0))
