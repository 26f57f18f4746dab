"""Does IEBN help a small network, and how much of that is its attention?
======================================================================

Trains the demo's residual network, width 8, on few labels of MNIST. For a seed all norms start from the same weights
and see the same batches. `--full` prints the tables of docs/iebn_evidence.md, in about ten minutes on two cores;
without it the run takes seconds and its numbers mean nothing.
"""

# sphinx_gallery_thumbnail_path = "pictures/iebn.png"

import argparse
import json
import math
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain, islice, product, repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixlayers.cli.data import load, split
from mixlayers.cli.score import accuracy, nll
from mixlayers.cli.torch_side import SmallResNet, predict
from mixlayers.cli.train import Batches
from mixlayers.cli.workers import available_cores
from mixlayers.torch import IEBN2d, convert_iebn, iebn_parameters

read = cache(load)
START: Final = 1 / (1 + math.e)  # sigmoid(-1) = 0.269, IEBN's scale at its start


def norms(model: nn.Module) -> dict[str, Any]:
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, nn.BatchNorm2d | IEBN2d)
    }


def scale(model: nn.Module, *, shortcuts: bool = True) -> None:
    """The control: BatchNorm with the scale that IEBN starts with."""
    for name, norm in norms(model).items():
        if shortcuts or "shortcut" not in name:
            nn.init.constant_(norm.weight, START)


def freeze(model: nn.Module) -> None:
    """IEBN whose attention is learned for each channel, alike for all instances."""
    for norm in norms(convert_iebn(model)).values():
        norm.weight_readjust.requires_grad_(False)


NORMS: Final[dict[str, Callable[[nn.Module], Any]]] = {
    "BatchNorm": lambda model: None,
    "BatchNorm from 0.269": scale,
    "IEBN": convert_iebn,
    "BatchNorm from 0.269, shortcuts from 1": lambda model: scale(
        model, shortcuts=False
    ),
    "IEBN, shortcuts plain": lambda model: convert_iebn(model, skip="*shortcut*"),
    "IEBN, preserve_output": lambda model: convert_iebn(model, preserve_output=True),
    "IEBN, weight_readjust kept at 0": freeze,
}
COMPARED: Final = tuple(NORMS)[:3]


@dataclass(frozen=True)
class Condition:
    """How to train: `cell` is (N_a, N_b), `foreign` a batch's number of foreign images."""

    name: str
    cell: tuple[float, float] = (1.0, 0.0)
    foreign: int = 0
    batch: int = 50
    times: int = 1


PLAIN: Final = Condition("50 images")
CLEAN: Final = (
    PLAIN,
    Condition("50 images, twice as long", times=2),
    Condition("10 images", batch=10),
)
CELLS: Final = [
    Condition(f"{a}, {b}", (a, b))
    for a, b in ((0.8, 0.8), (0.8, 0.5), (0.5, 0.5), (0.5, 0.2))
]
FOREIGN: Final = [Condition(f"{k} foreign", foreign=k) for k in (16, 32)]


FULL: Final = {"labels_per_class": 20, "epochs": 50, "tested": 10_000}
QUICK: Final = {"labels_per_class": 10, "epochs": 1, "tested": 200}


class Noise:
    """While on, norms take N_a * xhat + N_b for xhat, their normalised input."""

    def __init__(self, model: nn.Module, cell: tuple[float, float]) -> None:
        self.on, (self.factor, self.shift) = cell != (1.0, 0.0), cell
        for norm in norms(model).values():
            norm.register_forward_hook(self._disturb)

    def _disturb(self, norm: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if not self.on:
            return output
        gain, bias = norm.weight[:, None, None], norm.bias[:, None, None]
        if isinstance(norm, IEBN2d):
            gate = norm.weight_readjust * inputs[0].mean((2, 3)) + norm.bias_readjust
            gain = gain * gate.sigmoid()[:, :, None, None]
        return self.factor * (output - bias) + bias + self.shift * gain


def run(
    norm: str, condition: Condition, seed: int, budget: dict[str, int]
) -> dict[str, Any]:
    """Train a network, test it on clean images; scores by the state of its norms."""
    torch.set_num_threads(1)
    data, rate = read("mnist5k")[0], 0.1 * condition.batch / 50
    rows = split(data, budget["labels_per_class"], seed)
    batches = Batches(data, rows.train, seed)
    batches.size = condition.batch
    foreign = torch.from_numpy(
        1 - read("digits")[0].images
    )  # dark on light; MNIST is light on dark
    draw = np.random.default_rng([seed, 2])

    torch.manual_seed(seed)
    model = SmallResNet(width=8)
    NORMS[norm](model)
    noise = Noise(model, condition.cell)
    groups = iebn_parameters(model) if norm.startswith("IEBN") else model.parameters()
    steps = budget["epochs"] * condition.times * len(batches)
    optimizer = torch.optim.SGD(
        groups, rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=0.2
    )
    for batch in islice(chain.from_iterable(repeat(batches)), steps):
        images, labels = map(torch.from_numpy, batch)
        strangers = foreign[draw.integers(len(foreign), size=condition.foreign)]
        output = model(torch.cat([images, strangers]))[: len(labels)]
        optimizer.zero_grad()
        F.cross_entropy(output, labels).backward()
        optimizer.step()
        schedule.step()

    def score() -> dict[str, float]:
        chosen = rows.test[: budget["tested"]]
        probabilities = predict(model.eval(), torch.from_numpy(data.images[chosen]))
        labels = data.labels[chosen]
        return {
            "accuracy": accuracy(probabilities, labels),
            "nll": nll(probabilities, labels),
        }

    scores = {"noise": score()} if noise.on else {}
    noise.on = False
    scores["clean"] = score()
    if condition.foreign:
        for module in norms(model).values():
            module.reset_running_stats()
            module.momentum = None  # the average over all batches
        predict(model.train(), torch.from_numpy(data.images[rows.train]))
        scores["statistics taken anew"] = score()
    return {"norm": norm, "seed": seed, **asdict(condition), "scores": scores}


def spread(values: Iterable[float], digits: int) -> str:
    values = list(values)
    spread = np.std(values, ddof=min(1, len(values) - 1))
    return f"{np.mean(values):.{digits}f} ± {spread:.{digits}f}"


def table(
    title: str,
    runs: list[dict[str, Any]],
    of: Sequence[Condition],
    test: str = "clean",
) -> None:
    """Mean ± standard deviation over seeds; gains over BatchNorm with the same seed."""
    print(
        f"\n{title}\n\n| training | norm | accuracy % | gain | NLL |\n"
        "|---|---|---|---|---|"
    )
    for condition in of:
        found = {
            (each["norm"], each["seed"]): each
            for each in runs
            if each["name"] == condition.name
        }
        scores = {
            key: each["scores"].get(test, each["scores"]["clean"])
            for key, each in found.items()
        }
        for norm in dict.fromkeys(norm for norm, _ in scores):
            own = {
                seed: score
                for (other, seed), score in scores.items()
                if other == norm
            }
            percent = spread((100 * score["accuracy"] for score in own.values()), 1)
            plain = {seed: scores["BatchNorm", seed]["accuracy"] for seed in own}
            gain = spread(
                (
                    100 * (score["accuracy"] - plain[seed])
                    for seed, score in own.items()
                ),
                1,
            )
            losses = spread((score["nll"] for score in own.values()), 3)
            print(f"| {condition.name} | {norm} | {percent} | {gain} | {losses} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="what docs/iebn_evidence.md reports"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes; 0: one for each core"
    )
    parser.add_argument("--out", help="write every run to this JSON file")
    arguments = parser.parse_args()
    full, budget = arguments.full, FULL if arguments.full else QUICK
    rest = [*CLEAN[1:], *CELLS, *FOREIGN] if full else [CELLS[0], FOREIGN[0]]
    many, few = (range(5), range(3)) if full else (range(1), range(1))
    jobs = [(norm, PLAIN, seed, budget) for norm, seed in product(NORMS, many)]
    jobs += [
        (norm, each, seed, budget)
        for each, norm, seed in product(rest, COMPARED, few)
    ]
    workers = arguments.workers or (available_cores() if full else 1)
    if workers == 1:
        runs = [run(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn")
        ) as pool:
            runs = list(pool.map(run, *zip(*jobs, strict=True)))
    if arguments.out:
        report = {"budget": budget, "torch": torch.__version__, "runs": runs}
        Path(arguments.out).write_text(
            json.dumps(report, indent=1) + "\n", encoding="utf-8"
        )

    noisy = [
        each for each in runs if each["seed"] in few and each["norm"] in COMPARED
    ]
    print(f"{read('mnist5k')[0].title}: {budget}")
    table("Batches as they are", runs, CLEAN)
    table("Constant noise in training only", noisy, [PLAIN, *CELLS])
    table("Constant noise in training and test", noisy, [PLAIN, *CELLS], "noise")
    table("Foreign images in each training batch", noisy, [PLAIN, *FOREIGN])
    table(
        "The same networks, statistics taken anew without them",
        noisy,
        FOREIGN,
        "statistics taken anew",
    )


if __name__ == "__main__":
    main()
