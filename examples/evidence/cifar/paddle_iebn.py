"""Article 004's comparison in Paddle: ResNet-18 with IEBN, with BatchNorm, and with BatchNorm that starts as IEBN."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle_resnet_iebn import ResNet, train

from evidence import Job, Run
from evidence.cifar.networks import MEAN, SPREAD
from evidence.cifar.training import SHIFT, epochs_of, rows_of
from mixlayers.cli.score import measured
from mixlayers.cli.train import flipped, shifted
from mixlayers.paddle import IEBN

START = 1.0 / (1.0 + np.exp(1.0))
"""0.269: what IEBN multiplies by before it has learned anything, sigmoid(-1)."""


def from_start(channels: int) -> nn.Layer:
    """BatchNorm whose weights start where IEBN's product does."""
    return nn.BatchNorm2D(channels, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(START)))


NORMS = {"BatchNorm": nn.BatchNorm2D, "IEBN": IEBN, "BatchNorm from 0.269": from_start}


def work(job: Job, settings: Job) -> Run:
    asked: dict[str, Any] = {**settings, **job}
    data, rows = rows_of(asked)
    seed, side = asked["seed"], asked["side"]
    paddle.set_device("cpu" if asked["device"] == "cpu" else "gpu")
    warnings.filterwarnings("ignore", "When training, we now always track")  # what Paddle's BatchNorm says
    paddle.seed(seed)
    rng = np.random.default_rng([seed, 1])
    mean, spread = (np.array(values, np.float32)[:, None, None] for values in (MEAN, SPREAD))
    parts = [rows.train, rows.validation, rows.test]

    class Network(nn.Layer):  # type: ignore[misc]
        """The example's, after scaling images (N, 3, 32, 32) up, as the article does."""

        def __init__(self) -> None:
            super().__init__()
            self.net = ResNet(18, num_classes=10, norm_layer=NORMS[asked["norm"]], base=asked["width"])

        def forward(self, x: Any) -> Any:
            return self.net(x if side == 32 else nn.functional.interpolate(x, [side, side], mode="bilinear"))

    def moved(images: Any) -> Any:
        return paddle.to_tensor(flipped(shifted(images.numpy(), rng, SHIFT), rng))

    network = Network()
    images = [paddle.to_tensor((data.take(part) - mean) / spread) for part in parts]
    labels = [paddle.to_tensor(data.labels[part]) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        train(network, images, labels, epochs_of(asked), asked["batch"], Path(folder), seed, moved)
    network.eval()

    def chances(part: Any) -> np.ndarray:
        with paddle.no_grad():
            logits = [network(some).astype("float64") for some in paddle.split(part, sections(len(part)))]
            return np.concatenate([nn.functional.softmax(some).numpy() for some in logits])

    return measured(
        chances(images[2]), data.labels[rows.test], chances(images[1]), data.labels[rows.validation]
    )


def sections(count: int, chunk: int = 250) -> list[int]:
    """Sizes of the chunks that so many images are tested in."""
    return [chunk] * (count // chunk) + ([count % chunk] if count % chunk else [])
