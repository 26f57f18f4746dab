"""A whole recipe in PaddlePaddle
==============================

Each piece is switchable: `python examples/recipe_paddle.py --help`.
"""

import warnings

import numpy as np
import paddle
from paddle import nn
from paddle.io import BatchSampler, DataLoader, Dataset, RandomSampler
from recipe_common import BATCH, STAGES, Digits, Task, main

from mixlayers import DropBlock
from mixlayers.paddle import (
    Mixer,
    RepeatedAugmentationSampler,
    binary_cross_entropy,
    cross_entropy,
    mix,
    wrap,
)


class Images(Digits, Dataset):
    """The digits as Paddle wants them."""


def network() -> nn.Layer:
    """An ordinary network: nothing in it knows of the recipe."""

    def stage(incoming: int, outgoing: int) -> nn.Sequential:
        convolution = nn.Conv2D(incoming, outgoing, 3, 2, 1, bias_attr=False)
        return nn.Sequential(convolution, nn.BatchNorm2D(outgoing), nn.ReLU())

    head = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(
        ("stage1", stage(1, 16)),
        ("stage2", stage(16, 32)),
        ("stage3", stage(32, 64)),
        ("head", head),
    )


def train(task: Task) -> np.ndarray:
    """Train with the task's pieces; the logits of the test images."""
    paddle.seed(task.seed)
    np.random.seed(task.seed)  # noqa: NPY002  # paddle.io's RandomSampler draws from it
    pieces, method, model = task.pieces, task.pieces.method, network()
    optimizer = paddle.optimizer.Adam(parameters=model.parameters())
    if pieces.repeats > 1:
        sampler = RepeatedAugmentationSampler(
            task.train, pieces.repeats, seed=task.seed
        )
    else:
        sampler = RandomSampler(task.train)
    loader = DataLoader(
        task.train, batch_sampler=BatchSampler(sampler=sampler, batch_size=BATCH)
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

    steps = enumerate(task.rates())
    for _ in range(task.epochs):
        for images, labels in loader:
            step, rate = next(steps)
            optimizer.set_lr(rate)
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
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(task.test)).numpy()


if __name__ == "__main__":
    warnings.filterwarnings(
        "ignore", "When training, we now always track"
    )  # what Paddle's BatchNorm says
    main(train)
