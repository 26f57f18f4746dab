"""The audit on other libraries' models, with what is true set by hand."""

from functools import partial

import pytest
import timm
import torch
import torchvision

from mixlayers.torch import audit

TIMM, LAYER = object(), "encoder.layers.encoder_layer_0"
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_googlenets_heads_in_training_are_seen() -> None:
    """The first of them hangs at inception4a: what comes behind does not reach it."""
    model = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False, num_classes=5)
    report = audit(model, torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    for name in (
        "conv1",
        "maxpool1",
        "conv3",
        "maxpool2",
        "inception3a",
        "inception3b",
        "maxpool3",
        "inception4a",
    ):
        assert report[name].true, name
    for name in ("inception4b", "inception4d", "inception4e", "maxpool4", "inception5b", "aux1", "fc"):
        assert not report[name].true, name


TV, SIZE = torchvision.models, {"image_size": 64}
MODELS = {
    "resnet18": (TV.resnet18, ("maxpool", "layer1.0", "layer4"), ("layer1.0.conv1", "layer2.0.bn2")),
    "densenet121": (
        TV.densenet121,
        ("features.pool0", "features.transition1"),
        ("features.denseblock1.denselayer1",),
    ),
    "mobilenet_v3": (TV.mobilenet_v3_small, ("features.0", "features.3"), ("features.3.block.0",)),
    # the class token and the positions are the same for all samples: the patches hold all of one
    "vit_b_32": (
        partial(TV.vit_b_32, **SIZE),
        ("conv_proj", LAYER),
        (f"{LAYER}.mlp", f"{LAYER}.self_attention"),
    ),
    "convnext_atto": (TIMM, ("stem", "stages.0", "stages.1.blocks.0"), ("stages.0.blocks.0.mlp",)),
    "efficientnet_b0": (
        TIMM,
        ("blocks.0", "blocks.0.0.se", "blocks.1.0"),
        ("blocks.1.1.conv_dw",),
    ),
    "swin_s3_tiny_224": (TIMM, ("patch_embed", "layers.0"), ("layers.0.blocks.0.attn",)),
}


@pytest.mark.parametrize("name", MODELS)
def test_true_and_untrue_layers(name: str) -> None:
    make, true, untrue = MODELS[name]
    window = {"img_size": 64, "window_size": 2} if "swin" in name else {}
    report = audit(
        timm.create_model(name, num_classes=5, **window) if make is TIMM else make(num_classes=5), IMAGES
    )
    assert report.chosen and all(report[name].true for name in report.chosen if name != "input")
    assert {name: report[name].reason for name in true if not report[name].true} == {}
    assert [name for name in untrue if report[name].true] == []
