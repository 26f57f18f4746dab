"""The demo in PyTorch: see `sides`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixlayers import Method
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.network import WIDTH, Weights
from mixlayers.torch import cross_entropy, get_mixer, mix, wrap

_CHUNK: Final = 500


class Block(nn.Module):
    """Two convolutions and the way round them (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class SmallResNet(nn.Module):
    """Pictures (N, channels, H, W) to logits (N, classes).

    The stages give maps of a half, a half and a quarter of the sides, of `width`, `2 * width` and `4 * width` channels.
    """

    def __init__(self, width: int = WIDTH, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.layer1 = Block(width, width, 1)
        self.layer2 = Block(width, 2 * width, 1)
        self.layer3 = Block(2 * width, 4 * width, 2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Learner:
    def __init__(self, weights: Weights) -> None:
        self.network = SmallResNet(channels=weights["stem.0.weight"].shape[1])
        self.network.load_state_dict(_tensors(weights), strict=False)  # norms start as they are
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

        self.mixes = False

    def mix(self, method: Method, layers: str | tuple[str, ...], seed: int) -> None:
        self.mixes = True
        wrap(self.network, method, layers=layers, seed=seed)

    def step(self, images: Images, labels: Labels, rate: float, momentum: float) -> tuple[float, Any]:
        x, y = torch.from_numpy(images), torch.from_numpy(labels)
        output, target = self.network(x, target=y) if self.mixes else (self.network(x), None)
        loss = cross_entropy(output, y if target is None else target)
        self.optimizer.param_groups[0].update(lr=rate, momentum=momentum)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.item(), target

    def probabilities(self, images: Images) -> Probabilities:
        was_training = self.network.training
        self.network.eval()
        try:
            return predict(self.network, torch.from_numpy(images))
        finally:
            self.network.train(was_training)

    def attacked(self, images: Images, labels: Labels, epsilon: float) -> Images:
        was_training = self.network.training
        self.network.eval()
        try:
            return fgsm(self.network, torch.from_numpy(images), torch.from_numpy(labels), epsilon).numpy()
        finally:
            self.network.train(was_training)

    def state(self) -> Weights:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}


def predict(model: Callable[[Tensor], Tensor], images: Tensor) -> Probabilities:
    """Class probabilities (N, K), in chunks that fit the cache."""
    with torch.no_grad():
        return np.concatenate(
            [model(chunk).double().softmax(dim=1).numpy() for chunk in torch.split(images, _CHUNK)]
        )


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """`Learner.attacked`, of any model."""
    moved = []
    for x, y in zip(torch.split(images, _CHUNK), torch.split(labels, _CHUNK), strict=True):
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        moved.append((x.detach() + epsilon * gradient.sign()).clamp(0.0, 1.0))
    return torch.cat(moved)


def one_thread() -> None:
    torch.set_num_threads(1)


def mix_input(images: Images, labels: Labels, method: Method, step: int) -> tuple[Images, float]:
    mixed, target = mix(torch.from_numpy(images), torch.from_numpy(labels), method, step=step)
    return mixed.numpy(), float(target.s)


def hidden(state: Weights, images: Images, labels: Labels, method: Method | None, step: int) -> Images:
    network, x, y = SmallResNet(channels=images.shape[1]), torch.from_numpy(images), torch.from_numpy(labels)
    network.load_state_dict(_tensors(state))
    if method is not None:
        wrap(network, method, layers=["layer1"])
        get_mixer(network).load_state_dict({"step": step})
    seen: list[Tensor] = []
    network.layer2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    network(x) if method is None else network(x, target=y)
    return seen[-1].numpy()  # before it, the mixer may have audited the network with a forward of its own


def _tensors(weights: Weights) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in weights.items()}
