"""The network of the demo, whatever the framework: the names of its layers, and the weights that it starts with."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[Any]]

WIDTH: Final = 16


def initial_weights(seed: int, width: int = WIDTH, classes: int = 10, channels: int = 1) -> Weights:
    """Initial weights of convolutions and the linear layer, float32, by names; uniform, as PyTorch draws them.

    A residual network of three stages, for pictures (N, channels, H, W). `stem` is a 5x5 convolution of stride 2
    (`stem.0`), a norm (`stem.1`) and a ReLU. `layer1`, `layer2` and `layer3` are `conv1`, `bn1`, ReLU, `conv2`, `bn2`,
    the shortcut added, ReLU; `shortcut` is a 1x1 convolution (`shortcut.0`) and a norm (`shortcut.1`), or nothing in
    `layer1`. `layer3` has stride 2. `head` is linear, after a mean over space. Convolutions have no bias; norms start
    at 1 and 0.
    """
    shapes: dict[str, tuple[int, ...]] = {"stem.0.weight": (width, channels, 5, 5)}
    stages = ((width, width), (width, 2 * width), (2 * width, 4 * width))
    for number, (inputs, outputs) in enumerate(stages, start=1):
        shapes[f"layer{number}.conv1.weight"] = outputs, inputs, 3, 3
        shapes[f"layer{number}.conv2.weight"] = outputs, outputs, 3, 3
        if inputs != outputs:
            shapes[f"layer{number}.shortcut.0.weight"] = outputs, inputs, 1, 1
    shapes |= {"head.weight": (classes, 4 * width), "head.bias": (classes,)}
    rng = np.random.default_rng([seed, 2])
    inputs = 1
    weights = {}
    for name, shape in shapes.items():
        inputs = prod(shape[1:]) if len(shape) > 1 else inputs  # a bias has its weight's
        weights[name] = rng.uniform(-(inputs**-0.5), inputs**-0.5, shape).astype(np.float32)
    return weights
