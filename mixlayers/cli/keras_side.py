"""The demo in Keras, on JAX unless KERAS_BACKEND says otherwise: see `sides`."""

from __future__ import annotations

import os
from typing import Any, Final

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when Keras is imported

import keras
from keras import layers

from mixlayers import Method
from mixlayers.cli.arrays import DECAY, chunks, first, last, moved, softmax, turned
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.network import WIDTH, Weights
from mixlayers.keras import get_mixer, mix, wrap

_NAMES: Final = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Block(layers.Layer):  # type: ignore[misc]
    """Two convolutions and the way round them (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.pad = layers.ZeroPadding2D(1)  # "same" pads a stride of 2 on one side more than on the other
        self.conv1, self.bn1 = _conv(outputs, 3, stride, "conv1"), _norm("bn1")
        self.conv2, self.bn2 = _conv(outputs, 3, 1, "conv2"), _norm("bn2")
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = keras.Sequential([_conv(outputs, 1, stride, "0"), _norm("1")], name="shortcut")

    def call(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.pad(keras.ops.relu(self.bn1(self.conv1(self.pad(x)))))))
        return keras.ops.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def small_resnet(width: int = WIDTH, classes: int = 10, channels: int = 1) -> keras.Sequential:
    """Pictures (N, H, W, channels) to logits (N, classes).

    The stages give maps of a half, a half and a quarter of the sides, of `width`, `2 * width` and `4 * width` channels.
    """
    stem = [layers.ZeroPadding2D(2), _conv(width, 5, 2, "0"), _norm("1"), layers.ReLU()]
    return keras.Sequential(
        [
            keras.Input((None, None, channels)),
            keras.Sequential(stem, name="stem"),
            Block(width, width, 1, "layer1"),
            Block(width, 2 * width, 1, "layer2"),
            Block(2 * width, 4 * width, 2, "layer3"),
            layers.GlobalAveragePooling2D(data_format="channels_last"),
            layers.Dense(classes, name="head"),
        ]
    )


class Nesterov(keras.optimizers.Optimizer):  # type: ignore[misc]
    """PyTorch's SGD: in Keras' own a velocity keeps the rates of earlier steps, and decay is no part of it."""

    def build(self, variables: Any) -> None:
        super().build(variables)
        self.momentum = self.add_variable((), name="momentum")
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        velocity = self.velocities[self._get_variable_index(variable)]
        gradient = gradient + DECAY * variable
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, learning_rate * (gradient + self.momentum * velocity))


class Learner:
    def __init__(self, weights: Weights) -> None:
        self.network = small_resnet(channels=weights["stem.0.weight"].shape[1])
        _load(self.network, weights)
        self.optimizer = Nesterov(0.1)
        self.optimizer.build(self.network.trainable_variables)
        self.network.compile(self.optimizer, _loss())
        self.mixes = False

    def mix(self, method: Method, layers: str | tuple[str, ...], seed: int) -> None:
        self.mixes = True
        wrap(self.network, method, layers, seed=seed, channel_dim=-1)

    def step(self, images: Images, labels: Labels, rate: float, momentum: float) -> tuple[float, Any]:
        self.optimizer.learning_rate = rate
        self.optimizer.momentum.assign(momentum)
        loss = self.network.train_on_batch(last(images), labels)
        return float(loss), [*get_mixer(self.network).history][-1] if self.mixes else None

    def probabilities(self, images: Images) -> Probabilities:
        return softmax([self.network.predict_on_batch(last(part)) for part in chunks(images)])

    def attacked(self, images: Images, labels: Labels, epsilon: float) -> Images:
        self.network.trainable = False
        try:
            return moved(images, labels, epsilon, self._slope)
        finally:
            self.network.trainable = True

    def _slope(self, images: Images, labels: Labels) -> Images:
        attack = _Attack(self.network, last(images).shape)
        attack.compile(keras.optimizers.SGD(1.0), _loss())
        attack.train_on_batch(last(images), labels)
        return -first(keras.ops.convert_to_numpy(attack.way))

    def state(self) -> Weights:
        named = _named(self.network)
        return {
            name: turned(keras.ops.convert_to_numpy(value), (3, 2, 0, 1)) for name, value in named.items()
        }


class _Attack(keras.Model):  # type: ignore[misc]
    """A network whose input is all that learns: so a step of SGD is the gradient, whatever Keras runs on."""

    def __init__(self, network: keras.Model, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.way = self.add_weight(shape=shape, initializer="zeros")

    def call(self, x: Any) -> Any:
        return self.network(x + self.way, training=False)


def one_thread() -> None:
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    else:  # JAX reads it when it starts to compute
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"


def mix_input(images: Images, labels: Labels, method: Method, step: int) -> tuple[Images, float]:
    mixed, target = mix(last(images), labels, method, step=step, channel_dim=-1)
    return first(keras.ops.convert_to_numpy(mixed)), float(target.s)


def hidden(state: Weights, images: Images, labels: Labels, method: Method | None, step: int) -> Images:
    network, x = small_resnet(channels=images.shape[1]), last(images)
    _load(network, state)
    features = x
    for name in ("stem", "layer1"):
        features = network.get_layer(name)(features, training=True)
    if method is not None:
        wrap(network, method, layers=["layer1"], channel_dim=-1)
        get_mixer(network).load_state_dict({"step": step})
        features = get_mixer(network).planned(network, (x, labels)).plan.mixed("layer1", features)
    return first(keras.ops.convert_to_numpy(features))


def _loss() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _conv(outputs: int, size: int, stride: int, name: str) -> Any:
    return layers.Conv2D(outputs, size, stride, use_bias=False, data_format="channels_last", name=name)


def _norm(name: str) -> Any:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def _named(network: Any) -> dict[str, Any]:
    """The network's weights, by the names that they have elsewhere."""
    found = {}
    for weight in network.weights:
        _, *parents, own = weight.path.split("/")
        found[".".join([*parents, _NAMES.get(own, own)])] = weight
    return found


def _load(network: Any, weights: Weights) -> None:
    """Those that there are; norms start as they are."""
    named = _named(network)
    for name, value in weights.items():
        named[name].assign(turned(value, (2, 3, 1, 0)))
