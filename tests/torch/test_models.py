"""Real models: what auto chooses is a true mixing point, and the audit agrees with the swap test."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from mixlayers import Audit, ManifoldMixup
from mixlayers.torch import audit, get_mixer, wrap
from tests.torch.models import (
    BATCH,
    CASES,
    CLASSES,
    RecurrentClassifier,
    for_small_images,
    images,
    make,
    randomise,
)
from tests.torch.swap import passes_swap_test

CHOOSING = [name for name, case in CASES.items() if case.auto]
LABELS = torch.arange(BATCH) % CLASSES


@cache
def audited(name: str) -> tuple[nn.Module, dict[str, Any], Audit]:
    """A case with its report, made once for all that only ask."""
    model, inputs = make(name)
    return model, inputs, audit(model, inputs, batch_dim=CASES[name].batch_dim)


@pytest.mark.parametrize("name", CHOOSING)
def test_auto_chooses_the_ends_of_early_stages(name: str) -> None:
    model, inputs = make(name)
    wrap(model, example=inputs, batch_dim=CASES[name].batch_dim)
    assert get_mixer(model).places == CASES[name].auto


@pytest.mark.parametrize("name", CHOOSING)
def test_auto_chooses_the_same_at_the_first_training_batch(name: str) -> None:
    model, inputs = make(name)
    wrap(model, batch_dim=CASES[name].batch_dim)
    mixer = get_mixer(model)
    model(**inputs)
    assert mixer.places is None
    model.train()(**inputs, target=LABELS)
    assert mixer.places == CASES[name].auto


@pytest.mark.parametrize("name", CHOOSING)
def test_what_auto_chooses_passes_the_swap_test(name: str) -> None:
    model, inputs, report = audited(name)
    assert len(report.chosen) >= 2
    for place in report.chosen:
        assert passes_swap_test(model, inputs, place, CASES[name].batch_dim), place


@pytest.mark.parametrize("name", CASES)
def test_audit_agrees_with_the_swap_test(name: str) -> None:
    model, inputs, report = audited(name)
    every = max(1, len(report.points) // 12)
    sample = [*report.points[::every], *[point for point in report if point.true][:: 2 * every]]
    verdicts = {point.name: point.true for point in sample}
    assert verdicts == {
        place: passes_swap_test(model, inputs, place, CASES[name].batch_dim) for place in verdicts
    }


def test_audit_agrees_with_the_swap_test_where_a_residual_is_added_in_place() -> None:
    """`hidden += shortcut`, as Hugging Face's and torchvision's ResNets write it, changes the marked tensor."""
    model, inputs, report = audited("hf-resnet")
    branch = "resnet.encoder.stages.0.layers.0.layer"
    assert not passes_swap_test(model, inputs, branch)
    assert not report[branch].true


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_audit_knows_where_a_recurrent_state_has_its_batch(cell: type[nn.RNNBase], layers: int) -> None:
    """The state is (layers, N, C): three layers are not the three samples of the audit."""
    model = randomise(RecurrentClassifier(cell, layers, from_state=True))
    x, labels = torch.randn(8, 5, 6), torch.arange(8)
    if audit(model, x)["cells"].true:
        clean = model.train()(x)
        wrap(model, ManifoldMixup(pairs="derangement"), layers=["cells"])
        mixed, target = model(x, target=labels)
        target.blend(lambda y: y)
        assert not torch.allclose(mixed, clean, rtol=1e-3), "the labels were mixed, the features were not"


def test_a_recurrent_state_is_not_mixed_along_its_layers() -> None:
    """As many layers as samples."""
    model, x = RecurrentClassifier(nn.LSTM, layers=BATCH), torch.randn(BATCH, 5, 6)
    outputs = []
    model.cells.register_forward_hook(lambda *call: outputs.append(call[-1]))
    wrap(model, ManifoldMixup(pairs="derangement"), layers=["cells"])
    model.cells.register_forward_hook(lambda *call: outputs.append(call[-1]))
    _, target = model.train()(x, target=LABELS)
    target.blend(lambda y: y)
    (_, (before, _)), (_, (after, _)) = outputs[-2:]
    plan = get_mixer(model).last
    assert plan is not None
    along_batch = plan.lam * before + (1 - plan.lam) * before[:, torch.from_numpy(plan.perm)]
    assert torch.equal(after, before) or torch.allclose(after, along_batch)


def test_a_model_without_a_true_hidden_layer_is_refused() -> None:
    """Two branches, which no module joins; numbers are half of its input."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.numbers, self.categories = nn.Linear(3, 10), nn.Embedding(4, 10)

        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return self.numbers(x) + self.categories(ids)

    model = Branches()
    with pytest.raises(ValueError, match="no hidden layer that everything passes through"):
        wrap(model, example=(torch.randn(4, 3), torch.arange(4)))
    assert not any(model._forward_pre_hooks.values())


@pytest.mark.parametrize("name", ["hf-bert", "hf-distilbert", "hf-gpt2", "tabular", "ft-transformer"])
def test_an_input_with_indices_is_no_place(name: str) -> None:
    model, inputs, report = audited(name)
    assert not passes_swap_test(model, inputs, "input")
    assert not report.float_input


@pytest.mark.parametrize(
    ("name", "true", "called"),
    [
        ("resnet18", 2, 21),
        ("densenet121", 5, 121),
        ("mobilenetv2b_wd4", 23, 53),
        ("shufflenetv2_wd2", 3, 57),
        ("squeezenet_v1_0", 10, 26),
        ("hf-vit", 2, 20),
        ("hf-bert", 2, 20),
    ],
)
def test_audit_counts_true_convolutions_and_linear_layers(name: str, true: int, called: int) -> None:
    """As counted for these architectures in several libraries and frameworks."""
    model, inputs = make(name) if name in CASES else (for_small_images(name), images(32))
    layers = dict(model.named_modules())
    found = [
        point.true
        for point in audit(model, inputs)
        if isinstance(layers[point.name], nn.Conv2d | nn.Linear) and point.reason != "never called"
    ]
    assert (sum(found), len(found)) == (true, called)
