"""IEBN in Paddle: ResNet-18 with IEBN, with BatchNorm, with BatchNorm that starts as IEBN, and with RBN."""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle_resnet_iebn import ResNet, train

from evidence import Job, Run
from evidence.cifar.training import SHIFT, epochs_of, rows_of
from mixlayers.cli.score import measured
from mixlayers.cli.train import Batches
from mixlayers.paddle import IEBN, RBN2D

START = 1.0 / (1.0 + np.exp(1.0))
"""0.269: what IEBN multiplies by before it has learned anything, sigmoid(-1)."""
CHUNK = 250


def from_start(channels: int) -> nn.Layer:
    """BatchNorm whose weights start where IEBN's product does."""
    return nn.BatchNorm2D(channels, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(START)))


NORMS = {"BatchNorm": nn.BatchNorm2D, "IEBN": IEBN, "BatchNorm from 0.269": from_start, "RBN": RBN2D}


class Loader:
    """Batches as the example's loaders give them: images in [-1, 1], scaled up as in the article, and labels (N, 1)."""

    def __init__(self, batches: Iterable[tuple[np.ndarray, np.ndarray]], side: int) -> None:
        self.batches, self.side = batches, side

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for images, labels in self.batches:
            x = paddle.to_tensor(2.0 * images - 1.0)
            if self.side != x.shape[2]:
                x = nn.functional.interpolate(x, [self.side, self.side], mode="bilinear")
            yield x, paddle.to_tensor(labels[:, None])


def work(job: Job, settings: Job) -> Run:
    """Train by the example's recipe; score the weights that were best on the validation images, as the article does."""
    asked: dict[str, Any] = {**settings, **job}
    data, rows = rows_of(asked)
    seed, side = asked["seed"], asked["side"]
    paddle.set_device("cpu" if asked["device"] == "cpu" else "gpu")
    warnings.filterwarnings("ignore", "When training, we now always track")  # what Paddle's BatchNorm says
    paddle.seed(seed)
    network = ResNet(18, num_classes=10, norm_layer=NORMS[asked["norm"]], base=asked["width"])

    def still(part: np.ndarray) -> Loader:
        chunks = np.split(part, range(CHUNK, len(part), CHUNK))
        return Loader([(data.take(chunk), data.labels[chunk]) for chunk in chunks], side)

    training = Loader(Batches(data, rows.train, seed, asked["batch"], SHIFT), side)
    with tempfile.TemporaryDirectory() as folder:
        train(network, training, still(rows.validation), epochs_of(asked), Path(folder))
        network.set_state_dict(paddle.load(str(Path(folder, "best_model.pdparams"))))
    network.eval()

    def chances(part: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            logits = [network(images).astype("float64") for images, _ in still(part)]
            return np.concatenate([nn.functional.softmax(some).numpy() for some in logits])

    tested, validation = chances(rows.test), chances(rows.validation)
    return measured(tested, data.labels[rows.test], validation, data.labels[rows.validation])
