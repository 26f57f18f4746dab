"""A whole recipe in Chainer
=========================

Each piece is switchable: `python examples/recipe_chainer.py --help`.
"""

from mixlayers.chainer import (  # before chainer, which it helps to be imported
    Mixer,
    RepeatedAugmentationSampler,
    binary_cross_entropy,
    cross_entropy,
    mix,
    wrap,
)

import chainer  # isort: skip
import chainer.functions as F
import chainer.links as L
import numpy as np
from chainer import Chain, Sequential, Variable
from chainer.dataset import concat_examples
from chainer.iterators import SerialIterator
from recipe_common import BATCH, STAGES, Task, main

from mixlayers import DropBlock


class Network(Chain):
    """An ordinary network: nothing in it knows of the recipe."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.stage1, self.stage2, self.stage3 = (
                stage(1, 16),
                stage(16, 32),
                stage(32, 64),
            )
            self.head = L.Linear(64, 10)

    def forward(self, x: Variable) -> Variable:
        return self.head(
            F.mean(self.stage3(self.stage2(self.stage1(x))), axis=(2, 3))
        )


def stage(incoming: int, outgoing: int) -> Sequential:
    convolution = L.Convolution2D(incoming, outgoing, 3, 2, 1, nobias=True)
    return Sequential(convolution, L.BatchNormalization(outgoing), F.relu)


def train(task: Task) -> np.ndarray:
    """Train with the task's pieces; the logits of the test images."""
    # Chainer draws weights and the order of images from it
    np.random.seed(task.seed)  # noqa: NPY002
    pieces, method, model = task.pieces, task.pieces.method, Network()
    optimizer = chainer.optimizers.Adam().setup(model)
    order = None
    if pieces.repeats > 1:
        order = RepeatedAugmentationSampler(
            task.train, pieces.repeats, seed=task.seed
        )
    iterator = SerialIterator(
        task.train, BATCH, shuffle=None if order else True, order_sampler=order
    )
    if pieces.dropblock:  # at a hidden layer; mixing is left to the input
        wrap(
            model,
            DropBlock(pieces.dropblock, block_size=3),
            layers=["stage2"],
            seed=task.seed,
        )
    mixer = (
        Mixer(model, method, ["input", *STAGES], seed=task.seed)
        if method and method.hidden
        else None
    )

    for step, rate in enumerate(task.rates()):
        images, labels = concat_examples(next(iterator))
        optimizer.alpha = rate
        if mixer:
            output, target = model(images, target=labels)
        elif method:
            mixed, target = mix(images, labels, method, step=step, seed=task.seed)
            output = model(mixed)
        else:
            output, target = model(images), labels
        if pieces.loss == "bce":
            loss = binary_cross_entropy(
                output, target, pieces.smoothing, pieces.target_threshold
            )
        else:
            loss = cross_entropy(output, target, pieces.smoothing)
        model.cleargrads()
        loss.backward()
        optimizer.update()
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        return model(task.test).array


if __name__ == "__main__":
    main(train)
