"""Other people's models, small, with random weights that let every branch be seen in the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
import transformers
from efficientnet_pytorch import EfficientNet
from pytorchcv.model_provider import get_model
from pytorchcv.models.densenet_cifar import get_densenet_cifar
from pytorchcv.models.wrn_cifar import get_wrn_cifar
from rtdl_revisiting_models import FTTransformer
from torch import Tensor, nn

BATCH, CLASSES = 4, 10


@dataclass(frozen=True)
class Case:
    """A model, what it takes, and what layers="auto" should choose; empty: nothing, and say so."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...] | dict[str, Any]]
    auto: tuple[str, ...]
    maps: bool = False
    batch_dim: int = 0


class RecurrentClassifier(nn.Module):
    """An LSTM or GRU over (N, T, C), read off its outputs' last step, or its last state."""

    def __init__(self, cell: type[nn.RNNBase], layers: int = 1, from_state: bool = False) -> None:
        super().__init__()
        self.from_state = from_state
        self.embed = nn.Linear(6, 8)
        self.cells = cell(8, 12, layers, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        output, state = self.cells(self.embed(x).relu())
        hidden = state[0] if isinstance(state, tuple) else state
        return self.mlp(hidden[-1] if self.from_state else output[:, -1])


class SequenceFirst(nn.Module):
    """A transformer over (T, N, C): the batch is on axis 1 up to the output (1, N, CLASSES)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(0, keepdim=True))


class Tabular(nn.Module):
    """Continuous and categorical columns, joined before the first linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, 4)
        self.layers = mlp(5 + 2 * 4)

    def forward(self, continuous: Tensor, categories: Tensor) -> Tensor:
        return self.layers(torch.cat([continuous, self.embed(categories).flatten(1)], 1))


def mlp(features: int = 20) -> nn.Module:
    hidden = [layer for _ in range(2) for layer in (nn.Linear(24, 24), nn.ReLU())]
    return nn.Sequential(nn.Linear(features, 24), nn.ReLU(), *hidden, nn.Linear(24, CLASSES))


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, width in ((3, 8), (8, 12), (12, 16), (16, 16)):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
        ]  # fmt: skip
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, CLASSES))


def for_small_images(name: str) -> nn.Module:
    """An ImageNet model whose last pooling takes maps of any size."""
    model = get_model(name, num_classes=CLASSES)
    for part in list(model.modules()):
        if isinstance(getattr(part, "final_pool", None), nn.AvgPool2d):
            part.final_pool = nn.AdaptiveAvgPool2d(1)
    return model


def ft_transformer() -> nn.Module:
    return FTTransformer(
        n_cont_features=5, cat_cardinalities=[3, 3], d_out=CLASSES, n_blocks=4, d_block=16,
        attention_n_heads=2, attention_dropout=0.1, ffn_d_hidden=32, ffn_d_hidden_multiplier=None,
        ffn_dropout=0.1, residual_dropout=0.0,
    )  # fmt: skip


def hugging_face(kind: str, **settings: Any) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(num_labels=CLASSES, **settings)
    task = "Image" if kind in ("ViT", "ResNet", "Swin", "ConvNext") else "Sequence"
    return getattr(transformers, f"{kind}For{task}Classification")(config)


def images(size: int) -> tuple[Tensor]:
    return (torch.randn(BATCH, 3, size, size),)


def pixels(size: int) -> dict[str, Tensor]:
    return {"pixel_values": images(size)[0]}


def tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(1, 50, (BATCH, 7))}


def series() -> tuple[Tensor]:
    return (torch.randn(BATCH, 5, 6),)


def table() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, 5), torch.randint(0, 3, (BATCH, 2))


def _pytorchcv(name: str, auto: str = "12") -> Case:
    build, inputs = (
        (partial(get_model, name), partial(images, 32))
        if name.endswith("cifar10")
        else (partial(for_small_images, name), partial(images, 64))
    )
    return Case(build, inputs, ("input", *(f"features.stage{i}" for i in auto)), maps=True)


_SMALL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
_STAGES = {"hidden_sizes": [8, 12, 16, 20]}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "num_heads": [1, 2, 2, 2], "window_size": 2}
_GPT2 = {"n_embd": 16, "n_head": 2, "n_layer": 4, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
_DISTILBERT = {"dim": 16, "hidden_dim": 32, "n_heads": 2, "n_layers": 4}

CASES = {
    "resnet20": _pytorchcv("resnet20_cifar10"),
    "preresnet20": _pytorchcv("preresnet20_cifar10"),
    "densenet16": Case(
        partial(get_densenet_cifar, num_classes=CLASSES, blocks=16, growth_rate=12, bottleneck=False),
        partial(images, 32), ("input", "features.stage1", "features.stage2"), maps=True,
    ),
    "shakeshake20": _pytorchcv("shakeshakeresnet20_2x16d_cifar10"),
    "diaresnet20": _pytorchcv("diaresnet20_cifar10"),
    "wideresnet16": Case(
        partial(get_wrn_cifar, num_classes=CLASSES, blocks=16, width_factor=2),
        partial(images, 32), ("input", "features.stage1", "features.stage2"), maps=True,
    ),
    "mobilenetv2": _pytorchcv("mobilenetv2b_wd4", "23"),
    "shufflenetv2": _pytorchcv("shufflenetv2_wd2"),
    "squeezenet": _pytorchcv("squeezenet_v1_1"),
    "efficientnet-b0": Case(
        partial(EfficientNet.from_name, "efficientnet-b0", num_classes=CLASSES, width_coefficient=0.5),
        partial(images, 32), ("input", "_blocks.3", "_blocks.7"), maps=True,
    ),
    "hf-resnet": Case(
        partial(hugging_face, "ResNet", embedding_size=8, depths=[1, 1, 1, 1], layer_type="basic", **_STAGES),
        partial(pixels, 32), ("input", "resnet.encoder.stages.0", "resnet.encoder.stages.1"), maps=True,
    ),
    "hf-convnext": Case(
        partial(hugging_face, "ConvNext", depths=[1, 1, 2, 1], **_STAGES),
        partial(pixels, 64), ("input", "convnext.encoder.stages.0", "convnext.encoder.stages.1"), maps=True,
    ),
    "hf-swin": Case(
        partial(hugging_face, "Swin", depths=[1, 1, 2, 1], **_SWIN),
        partial(pixels, 32), ("input", "swin.encoder.layers.0", "swin.encoder.layers.1"),
    ),
    "hf-vit": Case(
        partial(hugging_face, "ViT", image_size=16, patch_size=4, num_hidden_layers=3, **_SMALL),
        partial(pixels, 16), ("input", "vit.layers.0", "vit.layers.1"),
    ),
    "hf-bert": Case(
        partial(hugging_face, "Bert", vocab_size=50, num_hidden_layers=3, **_SMALL),
        tokens, ("bert.encoder.layer.0", "bert.encoder.layer.1"),
    ),
    "hf-distilbert": Case(
        partial(hugging_face, "DistilBert", vocab_size=50, **_DISTILBERT),
        tokens, ("distilbert.transformer.layer.0", "distilbert.transformer.layer.1"),
    ),
    "hf-gpt2": Case(
        partial(hugging_face, "GPT2", vocab_size=50, **_GPT2), tokens, ("transformer.h.0", "transformer.h.1")
    ),
    "lstm": Case(partial(RecurrentClassifier, nn.LSTM), series, ("input", "embed", "cells")),
    "gru": Case(partial(RecurrentClassifier, nn.GRU), series, ("input", "embed", "cells")),
    "mlp": Case(mlp, lambda: (torch.randn(BATCH, 20),), ("input", "1", "3")),
    "vgg": Case(vgg, partial(images, 32), ("input", "2", "6"), maps=True),
    "sequence-first": Case(
        SequenceFirst, lambda: (torch.randn(5, BATCH, 16),),
        ("input", "encoder.layers.0", "encoder.layers.1"), batch_dim=1,
    ),
    "tabular": Case(Tabular, table, ("layers.1", "layers.3")),
    "ft-transformer": Case(
        ft_transformer, table, ("backbone.blocks.0.output", "backbone.blocks.1.output")
    ),
}  # fmt: skip


def make(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The case's model in eval mode, and its input by keyword; the same at every call."""
    case = CASES[name]
    torch.manual_seed(0)
    model, inputs = case.build(), case.inputs()
    if isinstance(inputs, tuple):
        inputs = dict(zip(signature(model.forward).parameters, inputs, strict=False))
    return randomise(model).eval(), inputs


def randomise(model: nn.Module) -> nn.Module:
    """Weights, norms and their statistics away from 0 and 1, where a branch would be switched off."""
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if value.ndim > 1 and value.is_floating_point():
                value.normal_(std=(2 / value[0].numel()) ** 0.5)
            elif name.endswith(("bias", "running_mean")):
                value.uniform_(-0.2, 0.2)
            elif name.endswith(("weight", "running_var", "layer_scale_parameter")):
                value.uniform_(0.5, 1.5)
    return model


def logits(output: Any) -> Tensor:
    """(N, CLASSES)."""
    return getattr(output, "logits", output).reshape(BATCH, CLASSES)
