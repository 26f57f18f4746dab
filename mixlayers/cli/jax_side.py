"""The demo in JAX, with Flax NNX: see `sides`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from mixlayers import Method
from mixlayers.cli.arrays import DECAY, chunks, first, last, moved, softmax, turned
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.network import WIDTH, Weights
from mixlayers.jax import blend, cross_entropy, mix
from mixlayers.nnx import Mixer

_NAMES: Final = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


class Block(nnx.Module):
    """Two convolutions and the way round them (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs) -> None:
        self.conv1, self.bn1 = _conv(inputs, outputs, 3, stride, rngs), _norm(outputs, rngs)
        self.conv2, self.bn2 = _conv(outputs, outputs, 3, 1, rngs), _norm(outputs, rngs)
        plain = inputs == outputs and stride == 1
        self.shortcut = None if plain else _Stem(inputs, outputs, 1, stride, rngs)

    def __call__(self, x: Any) -> Any:
        y = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class _Stem(nnx.Module):
    """A convolution and its norm, called "0" and "1", and in the network's stem a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs, *, relu: bool = False
    ) -> None:
        self.layers = nnx.List([_conv(inputs, outputs, size, stride, rngs), _norm(outputs, rngs)])
        self.relu = relu

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return nnx.relu(x) if self.relu else x


class SmallResNet(nnx.Module):
    """Pictures (N, H, W, channels) to logits (N, classes).

    The stages give maps of a half, a half and a quarter of the sides, of `width`, `2 * width` and `4 * width` channels.
    """

    def __init__(self, width: int = WIDTH, classes: int = 10, channels: int = 1) -> None:
        rngs = nnx.Rngs(0)
        self.stem = _Stem(channels, width, 5, 2, rngs, relu=True)
        self.layer1 = Block(width, width, 1, rngs)
        self.layer2 = Block(width, 2 * width, 1, rngs)
        self.layer3 = Block(2 * width, 4 * width, 2, rngs)
        self.head = nnx.Linear(4 * width, classes, rngs=rngs)
        self.training = True

    def __call__(self, x: Any) -> Any:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(x.mean((1, 2)))


class Learner:
    def __init__(self, weights: Weights) -> None:
        self.network = SmallResNet(channels=weights["stem.0.weight"].shape[1])
        _load(self.network, weights)
        self.velocities = jax.tree.map(jnp.zeros_like, nnx.state(self.network, nnx.Param))
        self.make_mixer: Callable[..., Mixer] | None = None
        self.mixer: Mixer | None = None

    def mix(self, method: Method, layers: str | tuple[str, ...], seed: int) -> None:
        self.make_mixer = partial(Mixer, self.network, method, layers, seed=seed)

    def step(self, images: Images, labels: Labels, rate: float, momentum: float) -> tuple[float, Any]:
        if self.mixer is None and self.make_mixer is not None:
            self.mixer = self.make_mixer(example=last(images[:2]))  # of this size
        plan = None if self.mixer is None else self.mixer.plan(len(labels), labels)
        loss, target, self.velocities = _step(
            self.network, self.velocities, last(images), labels, plan, rate, momentum
        )
        if plan is not None:  # at which of several places it acts is data
            target.plan = next((part for part in plan.parts if part.acts), plan)
        return float(loss), target

    def probabilities(self, images: Images) -> Probabilities:
        network = _evaluating(self.network)
        return softmax(_logits(network, last(part)) for part in chunks(images))

    def attacked(self, images: Images, labels: Labels, epsilon: float) -> Images:
        network = _evaluating(self.network)
        return moved(images, labels, epsilon, lambda part, own: first(_slope(network, last(part), own)))

    def state(self) -> Weights:
        named = _named(self.network)
        return {name: turned(np.asarray(value), (3, 2, 0, 1)) for name, value in named.items()}


@nnx.jit
def _step(
    network: Any, velocities: Any, x: Any, labels: Any, plan: Any, rate: float, momentum: float
) -> tuple[Array, Any, Any]:
    def loss(network: Any) -> tuple[Array, Any]:
        if plan is None:
            return cross_entropy(network(x), labels), None
        output, target = network(x, target=labels, plan=plan)
        return cross_entropy(output, target), target

    (value, target), gradients = nnx.value_and_grad(loss, has_aux=True)(network)
    parameters = nnx.state(network, nnx.Param)
    gradients = jax.tree.map(lambda g, p: g + DECAY * p, gradients, parameters)
    velocities = jax.tree.map(lambda v, g: momentum * v + g, velocities, gradients)
    moved = jax.tree.map(lambda p, g, v: p - rate * (g + momentum * v), parameters, gradients, velocities)
    nnx.update(network, moved)
    return value, target, velocities


@nnx.jit
def _logits(network: Any, x: Any) -> Any:
    return network(x)


@nnx.jit
def _slope(network: Any, x: Any, labels: Any) -> Any:
    return jax.grad(lambda x: cross_entropy(network(x), labels))(x)


def one_thread() -> None:
    """JAX reads it when it starts to compute."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"


def mix_input(images: Images, labels: Labels, method: Method, step: int) -> tuple[Images, float]:
    mixed, target = mix(last(images), labels, method, step=step)
    return first(mixed), float(target.s)


def hidden(state: Weights, images: Images, labels: Labels, method: Method | None, step: int) -> Images:
    network = SmallResNet(channels=images.shape[1])
    _load(network, state)
    plan = None
    if method is not None:
        mixer = Mixer(network, method, ["layer1"], example=last(images[:2]))
        mixer.load_state_dict({"step": step})
        plan = mixer.plan(len(labels), labels)
    features = network.layer1(network.stem(jnp.asarray(last(images))))
    return first(blend(features, plan, "layer1"))


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    around = (size // 2, size // 2)
    return nnx.Conv(
        inputs, outputs, (size, size), stride, padding=(around, around), use_bias=False, rngs=rngs
    )


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=rngs)


def _named(network: Any) -> dict[str, Any]:
    """The network's variables, by the names that they have elsewhere."""
    found = {}
    for path, variable in nnx.to_flat_state(nnx.state(network, (nnx.Param, nnx.BatchStat))):
        *parents, own = (str(part) for part in path if part != "layers")
        found[".".join([*parents, _NAMES.get(own, own)])] = variable
    return found


def _load(network: Any, weights: Weights) -> None:
    """Those that there are; norms start as they are."""
    variables = _named(network)
    for name, value in weights.items():
        variables[name].set_value(jnp.asarray(turned(value, (2, 3, 1, 0))))


def _evaluating(network: Any) -> Any:
    copy = nnx.clone(network)
    copy.eval()
    return copy
