"""The networks of the CIFAR-10 studies, and the weights that they start with."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, SPREAD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
"""Of the training images' channels, as everybody uses them."""


class Normalised(nn.Module):
    """Images (N, 3, 32, 32) in [0, 1] to what the layers get."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in {"mean": MEAN, "spread": SPREAD}.items():
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.spread


class Block(nn.Module):
    """Pre-activation: two norms, ReLUs and convolutions, and the way round them (He et al., ECCV 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        around = x if self.shortcut is None else self.shortcut(y)
        return around + self.conv2(F.relu(self.norm2(self.conv1(y))))


class PreActResNet(nn.Module):
    """`layer1`, `layer2`, ... of two blocks each; all after the first halve the sides and double the channels."""

    def __init__(self, width: int = 16, stages: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(Normalised(), nn.Conv2d(3, width, 3, padding=1, bias=False))
        inputs = width
        for stage in range(stages):
            outputs, stride = width * 2**stage, 1 if stage == 0 else 2
            blocks = Block(inputs, outputs, stride), Block(outputs, outputs, 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.norm, self.head = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name, layer in self.named_children():
            x = layer(x) if name.startswith("layer") else x
        return self.head(F.relu(self.norm(x)).mean(dim=(2, 3)))


class ViT(nn.Module):
    """A small vision transformer (Dosovitskiy et al., ICLR 2021): patches of 4x4, the mean of all tokens at the end."""

    def __init__(self, width: int = 64, stages: int = 6, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(Normalised(), nn.Conv2d(3, width, 4, 4))
        self.positions = nn.Parameter(torch.zeros(1, 64, width))
        for stage in range(stages):
            block = nn.TransformerEncoderLayer(
                width, max(1, width // 32), 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.add_module(f"layer{stage + 1}", block)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        for name, layer in self.named_children():
            x = layer(x) if name.startswith("layer") else x
        return self.head(self.norm(x).mean(dim=1))


NETWORKS = {"resnet": PreActResNet, "vit": ViT}


def build(network: str, width: int, stages: int, seed: int, classes: int = 10) -> nn.Module:
    """A network with the weights of this seed, whatever the PyTorch.

    They are normal, of variance 2 / fan-in for convolutions and 1 / fan-in for the others; biases are 0; norms stay.
    """
    made = NETWORKS[network](width, stages, classes)
    rng = np.random.default_rng([seed, 2])
    for name, value in made.named_parameters():
        if "norm" in name:
            continue
        fan_in = value[0].numel()
        scale = (2.0 if value.ndim == 4 else 1.0) / fan_in
        drawn = rng.normal(0.0, scale**0.5, tuple(value.shape)) if value.ndim > 1 else np.zeros(value.shape)
        with torch.no_grad():
            value.copy_(torch.from_numpy(drawn))
    # a fifth faster on a processor; at 4 channels PyTorch 2.13 would crash in backward
    return made.to(memory_format=torch.channels_last)
