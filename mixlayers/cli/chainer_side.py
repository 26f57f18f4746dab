"""The demo in Chainer: see `sides`."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mixlayers import Method
from mixlayers.chainer import (
    cross_entropy,
    get_mixer,
    mix,
    wrap,
)  # before chainer, which it helps to be imported
from mixlayers.cli.arrays import DECAY, chunks, moved, softmax
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.network import WIDTH, Weights

import chainer  # isort: skip
import chainer.functions as F
import chainer.links as L
from chainer import Chain, LinkHook, Sequential, Variable
from chainer.serializers import DictionarySerializer, NpzDeserializer


class Block(Chain):  # type: ignore[misc]
    """Two convolutions and the way round them (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        with self.init_scope():
            self.conv1 = L.Convolution2D(inputs, outputs, 3, stride, 1, nobias=True)
            self.bn1 = L.BatchNormalization(outputs, eps=1e-5)
            self.conv2 = L.Convolution2D(outputs, outputs, 3, 1, 1, nobias=True)
            self.bn2 = L.BatchNormalization(outputs, eps=1e-5)
            if inputs != outputs or stride != 1:
                self.shortcut = Sequential(
                    L.Convolution2D(inputs, outputs, 1, stride, nobias=True),
                    L.BatchNormalization(outputs, eps=1e-5),
                )
            else:
                self.shortcut = F.identity

    def forward(self, x: Variable) -> Variable:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class SmallResNet(Chain):  # type: ignore[misc]
    """Pictures (N, channels, H, W) to logits (N, classes).

    The stages give maps of a half, a half and a quarter of the sides, of `width`, `2 * width` and `4 * width` channels.
    """

    def __init__(self, width: int = WIDTH, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        with self.init_scope():
            self.stem = Sequential(
                L.Convolution2D(channels, width, 5, 2, 2, nobias=True),
                L.BatchNormalization(width, eps=1e-5),
                F.relu,
            )
            self.layer1 = Block(width, width, 1)
            self.layer2 = Block(width, 2 * width, 1)
            self.layer3 = Block(2 * width, 4 * width, 2)
            self.head = L.Linear(4 * width, classes)

    @property
    def training(self) -> bool:
        """In Chainer the mode is the thread's, not the network's."""
        return bool(chainer.config.train)

    def forward(self, x: Variable) -> Variable:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(F.mean(x, axis=(2, 3)))


class Learner:
    def __init__(self, weights: Weights) -> None:
        self.network = SmallResNet(channels=weights["stem.0.weight"].shape[1])
        parameters = dict(self.network.namedparams())
        for name, value in weights.items():  # norms start as they are
            path = name.replace(".", "/").replace("weight", "W").replace("bias", "b")
            parameters[f"/{path}"].array[...] = value
        self.velocities = [(parameter, np.zeros_like(parameter.array)) for parameter in parameters.values()]
        self.mixes = False

    def mix(self, method: Method, layers: str | tuple[str, ...], seed: int) -> None:
        self.mixes = True
        wrap(self.network, method, layers=layers, seed=seed)

    def step(self, images: Images, labels: Labels, rate: float, momentum: float) -> tuple[float, Any]:
        output, target = self.network(images, target=labels) if self.mixes else (self.network(images), None)
        loss = cross_entropy(output, labels if target is None else target)
        self.network.cleargrads()
        loss.backward()
        for (
            parameter,
            velocity,
        ) in self.velocities:  # Chainer's NesterovAG keeps the rates of earlier steps in it
            gradient = parameter.grad + DECAY * parameter.array
            velocity *= momentum
            velocity += gradient
            parameter.array -= rate * (gradient + momentum * velocity)
        return float(loss.array), target

    def probabilities(self, images: Images) -> Probabilities:
        with chainer.using_config("train", False), chainer.no_backprop_mode():
            return softmax(self.network(part).array for part in chunks(images))

    def attacked(self, images: Images, labels: Labels, epsilon: float) -> Images:
        def slope(part: Images, own: Labels) -> Any:
            x = Variable(part)
            (gradient,) = chainer.grad([F.softmax_cross_entropy(self.network(x), own)], [x])
            return gradient.array

        with chainer.using_config("train", False):
            return moved(images, labels, epsilon, slope)

    def state(self) -> Weights:
        serializer = DictionarySerializer()
        serializer.save(self.network)
        return dict(serializer.target)


def one_thread() -> None:
    threadpool_limits(1)


def mix_input(images: Images, labels: Labels, method: Method, step: int) -> tuple[Images, float]:
    mixed, target = mix(images, labels, method, step=step)
    return mixed, float(target.s)


def hidden(state: Weights, images: Images, labels: Labels, method: Method | None, step: int) -> Images:
    network, seen = SmallResNet(channels=images.shape[1]), _Seen()
    NpzDeserializer(state).load(network)
    if method is not None:
        wrap(network, method, layers=["layer1"])
        get_mixer(network).load_state_dict({"step": step})
    network.layer2.add_hook(seen)
    network(images) if method is None else network(images, target=labels)
    return seen.features  # before it, the mixer may have audited the network with a forward of its own


class _Seen(LinkHook):  # type: ignore[misc]
    """Keeps what the link was last called with."""

    features: Images

    def forward_preprocess(self, args: Any) -> None:
        self.features = args.args[0].array
