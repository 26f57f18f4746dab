"""Chainer: `ManifoldMixupClassifier` against `L.Classifier` in Chainer's Trainer."""

import tempfile
from typing import Any

from mixlayers.chainer import ManifoldMixupClassifier  # before chainer, which it helps to be imported

import chainer  # isort: skip
import chainer.functions as F
import chainer.links as L
import numpy as np
from chainer.datasets import TransformDataset, TupleDataset
from chainer.iterators import SerialIterator
from chainer.training import Trainer, extensions
from chainer.training.updaters import StandardUpdater
from chainer_manifold_mixup import Network

from evidence import Job, Run
from evidence.cifar.networks import MEAN, SPREAD
from evidence.cifar.training import SHIFT, epochs_of, rows_of
from mixlayers.cli.score import measured
from mixlayers.cli.train import flipped, shifted

CHUNK = 500


def normalised(images: np.ndarray) -> np.ndarray:
    mean, spread = (np.array(values, np.float32)[:, None, None] for values in (MEAN, SPREAD))
    return (images - mean) / spread


def work(job: Job, settings: Job) -> Run:
    asked: dict[str, Any] = {**settings, **job}
    data, rows = rows_of(asked)
    seed, epochs = asked["seed"], epochs_of(asked)
    np.random.seed(seed)  # noqa: NPY002  # Chainer draws weights and the order of images from it
    rng = np.random.default_rng([seed, 1])
    if asked["method"] == "plain":
        model = L.Classifier(Network(asked["width"]))
    else:
        model = ManifoldMixupClassifier(
            Network(asked["width"]), mixup_hidden=True, mixup_alpha=asked["alpha"], layer_mix=None,
            layers=["stage1", "stage2", "stage3"], seed=seed,
        )  # fmt: skip

    def moved(example: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        image, label = example
        return flipped(shifted(image[None], rng, SHIFT), rng)[0], label

    train = TupleDataset(normalised(data.take(rows.train)), data.labels[rows.train].astype(np.int32))
    optimizer = chainer.optimizers.MomentumSGD(0.1).setup(model)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(5e-4))
    updater = StandardUpdater(SerialIterator(TransformDataset(train, moved), asked["batch"]), optimizer)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(updater, (epochs, "epoch"), out=folder)
        steps = max(1, epochs * len(train) // asked["batch"])
        trainer.extend(extensions.LinearShift("lr", (0.1, 0.0), (0, steps)))
        if asked["method"] != "plain":
            trainer.extend(model.mixer.extension)
        trainer.run()

    def chances(part: np.ndarray) -> np.ndarray:
        images = normalised(data.take(part))
        with chainer.using_config("train", False), chainer.no_backprop_mode():
            chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
            logits = [model.predictor(chunk).array.astype(np.float64) for chunk in chunks]
            return np.concatenate([F.softmax(some).array for some in logits])

    tested, validation = chances(rows.test), chances(rows.validation)
    return measured(tested, data.labels[rows.test], validation, data.labels[rows.validation])
