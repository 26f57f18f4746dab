"""One run: train the network with one method from one seed, and score it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mixlayers.cli.data import DataSet, Images, Labels, Split
from mixlayers.cli.methods import Entry
from mixlayers.cli.network import initial_weights
from mixlayers.cli.score import evaluate, nll
from mixlayers.cli.sides import Learner, side
from mixlayers.cli.stop import Stop

BATCH: Final = 50
SHIFT: Final = 2
RECIPE: Final = {
    "network": "SmallResNet(width=16)",
    "optimizer": "SGD, Nesterov momentum 0.9, weight decay 5e-4",
    "learning_rate": "one cycle up to 0.1",
    "batch_size": BATCH,
    "augmentation": f"shifts of up to {SHIFT} pixels",
}
"""The same for every method, chosen on the plain network."""


@dataclass(frozen=True)
class Glimpse:
    """A glimpse of a step, for those who watch.

    Attributes:
        loss: Of the step's mixed batch.
        lam: Share of the original samples in the step's labels; 1 in a clean step.
        layer: Where the step mixed; None in a clean step.
    """

    step: int
    loss: float
    lam: float
    layer: str | None


@dataclass
class Run:
    """One finished run, as results.json holds it."""

    method: str
    seed: int
    accuracy: float
    nll: float
    ece: float
    temperature: float
    scaled_nll: float
    scaled_ece: float
    fgsm_accuracy: float
    seconds: float
    steps: int
    layers: dict[str, int] = field(default_factory=dict)
    mean_lam: float = 1.0
    curve: dict[str, list[float]] = field(default_factory=dict)


def _mean(lam: Any) -> float:
    """One lam, or the mean of each sample's."""
    return float(lam.mean() if getattr(lam, "ndim", 0) else lam)


def train(
    name: str,
    entry: Entry,
    data: DataSet,
    rows: Split,
    *,
    framework: str,
    seed: int,
    epochs: int,
    watch: Callable[[Glimpse], None],
) -> tuple[Run, Learner]:
    """Train and score; equal seeds start all methods from the same weights and show them the same batches.

    Args:
        watch: Called after each step.

    Raises:
        Stop: If the loss is no longer a number.
    """
    started = time.perf_counter()
    learner = side(framework).Learner(initial_weights(seed, channels=data.channels))
    if entry.method is not None:
        learner.mix(entry.method, entry.layers, seed)

    batches = Batches(data, rows.train, seed)
    total = epochs * len(batches)
    curve = Curve(data, rows.validation, every=max(1, total // 10))
    layers: Counter[str] = Counter()
    lams: list[float] = []

    step = 0
    for _ in range(epochs):
        for images, labels in batches:
            loss, target = learner.step(images, labels, *one_cycle(step, total))
            step += 1
            mixed = target is not None
            glimpse = Glimpse(
                step, loss, _mean(target.lam) if mixed else 1.0, target.layer if mixed else None
            )
            if not math.isfinite(loss):
                raise Stop(f"The loss of {entry.title} is {loss} after {step} steps, seed {seed}.")
            layers[glimpse.layer or "none"] += 1
            lams.append(glimpse.lam)
            watch(glimpse)
            if step % curve.every == 0 or step == total:
                curve.add(learner, step)

    scores = evaluate(learner, data, rows)
    run = Run(
        name,
        seed,
        **asdict(scores),
        seconds=round(time.perf_counter() - started, 3),
        steps=step,
        layers=dict(sorted(layers.items())),
        mean_lam=float(np.mean(lams)),
        curve={"step": list(map(float, curve.steps)), "nll": curve.values},
    )
    return run, learner


def one_cycle(step: int, total: int) -> tuple[float, float]:
    """Learning rate and momentum: up to 0.1 and down to 0.85 in a fifth of the steps, then back; half cosines.

    Smith and Topin, "Super-Convergence", 2018; as PyTorch's OneCycleLR has it.
    """
    top = 0.2 * max(total, 2) - 1
    if 0 <= step <= top and top > 0:
        return _eased(0.004, 0.1, step / top), _eased(0.95, 0.85, step / top)
    part = (step - top) / (max(total, 2) - 1 - top)
    return _eased(0.1, 4e-7, part), _eased(0.85, 0.95, part)


def _eased(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


class Batches:
    """The training images in a new order each epoch, each shifted a little, and mirrored or not where that is fair."""

    def __init__(self, data: DataSet, rows: Labels, seed: int, size: int = BATCH, shift: int = SHIFT) -> None:
        self.images, self.labels = data.take(rows), data.labels[rows]
        self.flips, self.shift = data.flips, shift
        self.size = min(size, len(rows))
        self.rng = np.random.default_rng([seed, 1])

    def __len__(self) -> int:
        return len(self.labels) // self.size

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        order = self.rng.permutation(len(self.labels))
        for start in range(0, len(self) * self.size, self.size):
            rows = order[start : start + self.size]
            images = shifted(self.images[rows], self.rng, self.shift)
            yield flipped(images, self.rng) if self.flips else images, self.labels[rows]


def shifted(images: Images, rng: np.random.Generator, most: int = SHIFT) -> Images:
    """Move each picture by up to so many pixels in both directions; black comes in from the border."""
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    down, right = rng.integers(0, 2 * most + 1, size=(2, len(images)))
    return np.ascontiguousarray(windows[np.arange(len(images)), :, down, right])


def flipped(images: Images, rng: np.random.Generator) -> Images:
    """Mirror each picture or not, left to right."""
    chosen = rng.integers(0, 2, size=(len(images), 1, 1, 1))
    return np.where(chosen, images[..., ::-1], images)


class Curve:
    """Validation NLL while training. It only goes into a picture: no result depends on it."""

    def __init__(self, data: DataSet, rows: Labels, every: int) -> None:
        self.images, self.labels = data.take(rows), data.labels[rows]
        self.every = every
        self.steps: list[int] = []
        self.values: list[float] = []

    def add(self, learner: Learner, step: int) -> None:
        self.steps.append(step)
        self.values.append(nll(learner.probabilities(self.images), self.labels))
