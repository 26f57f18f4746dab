"""The demo in PaddlePaddle: see `sides`."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from mixlayers import Method
from mixlayers.cli.arrays import chunks, moved, softmax
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.network import WIDTH, Weights
from mixlayers.paddle import cross_entropy, get_mixer, mix, wrap


class Block(nn.Layer):  # type: ignore[misc]
    """Two convolutions and the way round them (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(inputs, outputs, 3, stride, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(outputs)
        self.conv2 = nn.Conv2D(outputs, outputs, 3, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(outputs)
        self.shortcut: nn.Layer = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2D(inputs, outputs, 1, stride, bias_attr=False), nn.BatchNorm2D(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class SmallResNet(nn.Layer):  # type: ignore[misc]
    """Pictures (N, channels, H, W) to logits (N, classes).

    The stages give maps of a half, a half and a quarter of the sides, of `width`, `2 * width` and `4 * width` channels.
    """

    def __init__(self, width: int = WIDTH, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2D(channels, width, 5, stride=2, padding=2, bias_attr=False),
            nn.BatchNorm2D(width),
            nn.ReLU(),
        )
        self.layer1 = Block(width, width, 1)
        self.layer2 = Block(width, 2 * width, 1)
        self.layer3 = Block(2 * width, 4 * width, 2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(x.flatten(2).mean(2))


class Learner:
    def __init__(self, weights: Weights) -> None:
        self.network = SmallResNet(channels=weights["stem.0.weight"].shape[1])
        parameters = dict(self.network.named_parameters())
        for (
            name,
            value,
        ) in weights.items():  # norms start as they are; Paddle's linear weight is the transposed one
            parameters[name].set_value(value.T if name == "head.weight" else value)
        self.optimizer = paddle.optimizer.Momentum(
            0.1, 0.9, self.network.parameters(), use_nesterov=True, weight_decay=5e-4
        )
        self.mixes = False

    def mix(self, method: Method, layers: str | tuple[str, ...], seed: int) -> None:
        self.mixes = True
        wrap(self.network, method, layers=layers, seed=seed)

    def step(self, images: Images, labels: Labels, rate: float, momentum: float) -> tuple[float, Any]:
        x, y = paddle.to_tensor(images), paddle.to_tensor(labels)
        output, target = self.network(x, target=y) if self.mixes else (self.network(x), None)
        loss = cross_entropy(output, y if target is None else target)
        self.optimizer.set_lr(rate)
        self.optimizer._momentum = momentum  # read at each step
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        return float(loss), target

    def probabilities(self, images: Images) -> Probabilities:
        was_training = self.network.training
        self.network.eval()
        try:
            with paddle.no_grad():
                return softmax(self.network(paddle.to_tensor(part)).numpy() for part in chunks(images))
        finally:
            self.network.train() if was_training else self.network.eval()

    def attacked(self, images: Images, labels: Labels, epsilon: float) -> Images:
        def slope(part: Images, own: Labels) -> Any:
            x = paddle.to_tensor(part, stop_gradient=False)
            loss = F.cross_entropy(self.network(x), paddle.to_tensor(own))
            return paddle.grad(loss, x)[0].numpy()

        was_training = self.network.training
        self.network.eval()
        try:
            return moved(images, labels, epsilon, slope)
        finally:
            self.network.train() if was_training else self.network.eval()

    def state(self) -> Weights:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}


def one_thread() -> None:
    paddle.set_device("cpu")
    paddle.set_flags({"FLAGS_paddle_num_threads": 1})


def mix_input(images: Images, labels: Labels, method: Method, step: int) -> tuple[Images, float]:
    mixed, target = mix(paddle.to_tensor(images), paddle.to_tensor(labels), method, step=step)
    return mixed.numpy(), float(target.s)


def hidden(state: Weights, images: Images, labels: Labels, method: Method | None, step: int) -> Images:
    network, x, y = SmallResNet(channels=images.shape[1]), paddle.to_tensor(images), paddle.to_tensor(labels)
    network.set_state_dict(state)
    if method is not None:
        wrap(network, method, layers=["layer1"])
        get_mixer(network).load_state_dict({"step": step})
    seen: list[Tensor] = []
    network.layer2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    network(x) if method is None else network(x, target=y)
    features: Images = seen[
        -1
    ].numpy()  # before it, the mixer may have audited the network with a forward of its own
    return features
