"""A whole recipe in PyTorch
=========================

Each piece is switchable: `python examples/recipe_torch.py --help`.
"""

import numpy as np
import torch
from recipe_common import BATCH, STAGES, Task, main
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from mixlayers import DropBlock
from mixlayers.torch import (
    Mixer,
    RepeatedAugmentationSampler,
    binary_cross_entropy,
    cross_entropy,
    mix,
    wrap,
)


def network() -> nn.Module:
    """An ordinary network: nothing in it knows of the recipe."""

    def stage(incoming: int, outgoing: int) -> nn.Sequential:
        convolution = nn.Conv2d(incoming, outgoing, 3, 2, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outgoing), nn.ReLU())

    model = nn.Sequential()
    for number, (incoming, outgoing) in enumerate(
        ((1, 16), (16, 32), (32, 64)), start=1
    ):
        model.add_module(f"stage{number}", stage(incoming, outgoing))
    model.add_module(
        "head",
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    return model


def train(task: Task) -> np.ndarray:
    """Train with the task's pieces; the logits of the test images."""
    torch.manual_seed(task.seed)
    pieces, method, model = task.pieces, task.pieces.method, network()
    optimizer = torch.optim.Adam(model.parameters())
    if pieces.repeats > 1:
        sampler = RepeatedAugmentationSampler(
            task.train, pieces.repeats, seed=task.seed
        )
    else:
        sampler = RandomSampler(task.train)
    loader = DataLoader(task.train, BATCH, sampler=sampler)
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
            step, optimizer.param_groups[0]["lr"] = next(steps)
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
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return model(torch.tensor(task.test)).numpy()


if __name__ == "__main__":
    main(train)
