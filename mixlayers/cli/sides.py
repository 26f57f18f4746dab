"""The frameworks' sides: a module `<framework>_side.py` each, with the same names, imported when needed.

Pictures, labels and results are NumPy's on both sides of these functions.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, Protocol, cast

from mixlayers import Method
from mixlayers.cli.data import Images, Labels, Probabilities
from mixlayers.cli.network import Weights
from mixlayers.cli.stop import Stop

FRAMEWORKS: Final = {
    "torch": "PyTorch",
    "paddle": "PaddlePaddle",
    "chainer": "Chainer",
    "jax": "JAX",
    "keras": "Keras",
}


class Learner(Protocol):
    """The network of `network`, with its optimizer: SGD, Nesterov momentum, weight decay 5e-4 on everything."""

    def __init__(self, weights: Weights) -> None:
        """Start from `initial_weights`, in training mode."""

    def mix(self, method: Method, layers: str | tuple[str, ...], seed: int) -> None:
        """Wrap the network, so that its steps mix."""

    def step(self, images: Images, labels: Labels, rate: float, momentum: float) -> tuple[float, Any]:
        """Train on a batch.

        Args:
            rate, momentum: Of this step.

        Returns:
            The loss, and what tells `lam` and `layer` of the step, such as its MixedTarget; None where nothing mixes.
        """

    def probabilities(self, images: Images) -> Probabilities:
        """Class probabilities (N, K) in eval mode, float64; the mode is put back."""

    def attacked(self, images: Images, labels: Labels, epsilon: float) -> Images:
        """Every pixel moved by epsilon in the direction that raises the loss, within [0, 1]; in eval mode.

        Goodfellow et al., "Explaining and Harnessing Adversarial Examples", ICLR 2015.
        """

    def state(self) -> Weights:
        """All weights and statistics, for `hidden`."""


class Side(Protocol):
    """A framework's module."""

    Learner: type[Learner]

    def one_thread(self) -> None:
        """Let this process compute on one core."""

    def mix_input(self, images: Images, labels: Labels, method: Method, step: int) -> tuple[Images, float]:
        """The images as a step mixes them, and the partners' share in the labels."""

    def hidden(
        self, state: Weights, images: Images, labels: Labels, method: Method | None, step: int
    ) -> Images:
        """The features that `layer2` gets in training, float32 (N, C, H, W), mixed behind `layer1`."""


def side(framework: str) -> Side:
    """The framework's module.

    Raises:
        Stop: If it cannot be imported.
    """
    try:
        return cast(Side, import_module(f"mixlayers.cli.{framework}_side"))
    except ImportError as error:
        raise Stop(str(error)) from error
