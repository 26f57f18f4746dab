"""Real models of torchvision and timm: what the audit calls true mixing points passes the swap test."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import pytest
import timm
import torch
import torchvision.models as tv
from torch import nn

from mixlayers import ManifoldMixup, PatchUp
from mixlayers.torch import audit, cross_entropy, get_mixer, unwrap, wrap
from tests.torch.models import BATCH, CLASSES, randomise
from tests.torch.swap import passes_swap_test

Build = Callable[[], nn.Module]

CASES: dict[str, tuple[Build, int, tuple[str, ...], tuple[int, int]]] = {
    # build, side of the images, what "auto" chooses, (true, called) convolutions and linear layers
    "tv-resnet18": (partial(tv.resnet18, num_classes=CLASSES), 32, ("input", "layer1", "layer2"), (2, 21)),
    "tv-densenet121": (
        partial(tv.densenet121, num_classes=CLASSES), 32,
        ("input", "features.denseblock1", "features.denseblock2"), (5, 121),
    ),
    "tv-mobilenet_v2": (
        partial(tv.mobilenet_v2, num_classes=CLASSES), 32, ("input", "features.4", "features.9"), (23, 53)
    ),
    "tv-vit": (
        partial(
            tv.VisionTransformer, image_size=32, patch_size=16, num_layers=4, num_heads=2, hidden_dim=16,
            mlp_dim=32, num_classes=CLASSES,
        ),
        32, ("input", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"), (2, 10),
    ),
    "timm-resnet18": (
        partial(timm.create_model, "resnet18", num_classes=CLASSES), 32, ("input", "layer1", "layer2"), (2, 21)
    ),
    "timm-vit_tiny": (
        partial(timm.create_model, "vit_tiny_patch16_224", num_classes=CLASSES, img_size=32), 32,
        ("input", "blocks.2", "blocks.5"), (2, 50),
    ),
    "timm-convnext_atto": (
        partial(timm.create_model, "convnext_atto", num_classes=CLASSES), 64, ("input", "stages.0", "stages.1"), (5, 41)
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    build, side, auto, counts = CASES[request.param]
    torch.manual_seed(0)
    return randomise(build()).eval(), torch.randn(BATCH, 3, side, side), auto, counts


def test_true_points_pass_the_swap_test(case: tuple[Any, ...]) -> None:
    model, x, _, counts = case
    report = audit(model, x)
    true, called = set(report.true), {point.name for point in report if point.shape}
    weighty = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert (len(weighty & true), len(weighty & called)) == counts
    argument = next(iter(signature(model.forward).parameters))  # x or input
    for place in report.true[:: max(1, len(true) // 6)]:
        assert passes_swap_test(model, {argument: x}, place), place
    for place in sorted(weighty & called - true)[:2]:
        assert not passes_swap_test(model, {argument: x}, place), place


@pytest.mark.parametrize("method", [ManifoldMixup(2.0), PatchUp("hard", block_size=3)])
def test_wrapped_model_trains_and_comes_back(case: tuple[Any, ...], method: Any) -> None:
    model, x, auto, _ = case
    keys, before = list(model.state_dict()), model(x)
    wrap(model, method, example=x[:2])
    assert get_mixer(model).places == auto
    model.train()
    for _ in range(3):
        output, target = model(x, target=torch.arange(BATCH))
        cross_entropy(output, target).backward()
    assert get_mixer(model).history.mixed == 3
    unwrap(model)
    model.eval()
    assert list(model.state_dict()) == keys and before.shape == model(x).shape
