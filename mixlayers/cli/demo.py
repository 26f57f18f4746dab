"""`mixlayers demo`: train with each method from several seeds, then show table and pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from mixlayers._core.install import extra
from mixlayers.cli.data import DataSet, Split, check_name, load, split
from mixlayers.cli.methods import METHODS, chosen_methods
from mixlayers.cli.progress import Watcher
from mixlayers.cli.results import FILE, Results, prepare_folder
from mixlayers.cli.sides import FRAMEWORKS
from mixlayers.cli.stop import INTERRUPTED, WRONG_USE, Stop
from mixlayers.cli.table import show_table
from mixlayers.cli.workers import MOST, Job, News, Task, available_cores, run_jobs

STEPS: Final = 200
QUICK_STEPS: Final = 80
SEEDS: Final = 3


@dataclass(frozen=True)
class Choices:
    """The user's choices, checked."""

    data: str
    labels_per_class: int
    epochs: int | None
    seeds: int
    methods: tuple[str, ...]
    out: Path
    quick: bool
    framework: str
    workers: int | None

    @classmethod
    def checked(
        cls,
        *,
        data: str,
        labels_per_class: int,
        epochs: int | None,
        seeds: int | None,
        methods: str | None,
        out: Path,
        quick: bool,
        framework: str,
        workers: int | None = None,
    ) -> Choices:
        """Check what the option parser could not.

        Raises:
            Stop: With exit code 2 for an unknown name; with 1 if the framework is not installed.
        """
        if framework not in FRAMEWORKS:
            raise Stop(f"--framework knows {', '.join(FRAMEWORKS)}; got {framework!r}.", WRONG_USE)
        check_name(data)
        names = chosen_methods(methods)
        needed = (framework, os.environ.get("KERAS_BACKEND", "jax")) if framework == "keras" else (framework,)
        for package in needed:
            if find_spec(package) is None:
                raise Stop(
                    f"The demo trains with {package}, which is not installed: {extra(','.join(needed))}"
                )
        return cls(
            data,
            labels_per_class,
            epochs,
            seeds or (1 if quick else SEEDS),
            names,
            out,
            quick,
            framework,
            workers,
        )


def run_demo(choices: Choices) -> None:
    """Run the demo from data to pictures.

    Raises:
        Stop: If it cannot start or go on, or was interrupted; finished runs are in results.json by then.
    """
    console = Console()
    data, note = load(choices.data)
    splits = [split(data, choices.labels_per_class, seed) for seed in range(choices.seeds)]
    prepare_folder(choices.out)
    if note:
        console.print(note, highlight=False, soft_wrap=True)
    pictures = find_spec("matplotlib") is not None
    if not pictures:
        console.print(
            "matplotlib is not installed, so there will be a table and results.json, but no pictures "
            "(pip install matplotlib).",
            highlight=False,
        )

    from mixlayers.cli.train import BATCH, RECIPE

    training = len(splits[0].train)
    steps_per_epoch = max(1, training // BATCH)
    epochs = choices.epochs or max(1, (QUICK_STEPS if choices.quick else STEPS) // steps_per_epoch)
    jobs = [Job(name, seed) for seed in range(choices.seeds) for name in choices.methods]
    workers = choices.workers or min(available_cores(), len(jobs), MOST)
    results = Results(
        config={
            "data": data.name,
            "labels_per_class": choices.labels_per_class,
            "methods": list(choices.methods),
            "method_settings": {name: repr(METHODS[name].method) for name in choices.methods},
            "layers": {name: METHODS[name].layers for name in choices.methods},
            "seeds": list(range(choices.seeds)),
            "epochs": epochs,
            "steps": epochs * steps_per_epoch,
            "quick": choices.quick,
            "framework": choices.framework,
            "workers": workers,
            "recipe": {
                **RECIPE,
                "augmentation": f"{RECIPE['augmentation']}{', flips' if data.flips else ''}",
            },
        },
        data=_describe(data, splits[0]),
        planned=len(jobs),
    )
    console.print(
        f"{data.title}: {training} training images, {len(splits[0].test)} test images. {_count(jobs, choices.seeds)}, "
        f"{epochs} epochs each, {workers} at a time.",
        highlight=False,
        soft_wrap=True,
    )

    weights: dict[str, Any] = {}

    def tell(news: News) -> None:
        if news.run is not None:
            results.runs.append(news.run)
            results.save(choices.out)
            if news.job == jobs[-1]:
                weights.update(news.weights or {})
        watcher.tell(news)

    try:
        with Watcher(console, jobs, results.config["steps"]) as watcher:
            run_jobs(jobs, Task(data, splits, epochs, choices.framework), workers, tell)
    except KeyboardInterrupt:
        raise Stop(_interrupted(console, results, choices.out), INTERRUPTED) from None
    except Stop:
        if results.runs:
            show_table(console, results)
        raise

    show_table(console, results)
    if pictures:
        from mixlayers.cli.pictures import draw_all

        results.pictures = draw_all(results, data, splits[0], weights, choices.out)
        results.save(choices.out)
    console.print(
        f"\nIn {choices.out}: {', '.join([FILE, *results.pictures])}", highlight=False, soft_wrap=True
    )


def _count(jobs: list[Job], seeds: int) -> str:
    """ "18 runs: 6 methods, 3 seeds", in words that fit the numbers."""
    methods = len(jobs) // seeds
    amounts = ((len(jobs), "run"), (methods, "method"), (seeds, "seed"))
    runs, *parts = (f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in amounts)
    return f"{runs} ({', '.join(parts)})"


def _describe(data: DataSet, rows: Split) -> dict[str, Any]:
    return {
        "name": data.name,
        "title": data.title,
        "origin": data.origin,
        "train": len(rows.train),
        "validation": len(rows.validation),
        "test": len(rows.test),
        "epsilon": data.epsilon,
    }


def _interrupted(console: Console, results: Results, out: Path) -> str:
    """Show what there is; returns the line to end with."""
    if not results.runs:
        return "Stopped by Ctrl-C before the first run was finished; nothing was kept."
    show_table(console, results)
    done = f"{len(results.runs)} of {results.planned} runs"
    return f"Stopped by Ctrl-C after {done}; their results are in {out / FILE}."
