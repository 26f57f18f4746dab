"""The record of a demo: what was asked, with which versions, and every finished run."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mixlayers import __version__
from mixlayers.cli.paired import Paired, paired
from mixlayers.cli.stop import Stop, cause

if TYPE_CHECKING:
    from mixlayers.cli.train import Run

FILE: Final = "results.json"
PREVIOUS: Final = "results.previous.json"
MEASURES: Final = ("accuracy", "nll", "ece", "fgsm_accuracy")
SCALED: Final = ("scaled_nll", "scaled_ece")
"""After the logits were divided by the temperature."""
SMALLER_IS_BETTER: Final = ("nll", "ece", *SCALED)
PLAIN: Final = "plain"
"""The method that others are compared with."""


@dataclass
class Results:
    """Everything that results.json holds.

    Attributes:
        config: What the demo was asked to do.
        data: The data set and the sizes of its parts.
        planned: How many runs there are to be.
        runs: The finished ones.
        pictures: File names of the pictures.
    """

    config: Mapping[str, Any]
    data: Mapping[str, Any]
    planned: int
    runs: list[Run] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def of(self, method: str) -> list[Run]:
        """A method's finished runs, by seed."""
        return sorted((run for run in self.runs if run.method == method), key=lambda run: run.seed)

    @property
    def methods(self) -> list[str]:
        """The methods with at least one finished run, in the order asked for."""
        return [name for name in self.config["methods"] if self.of(name)]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 1,
            "finished": len(self.runs) == self.planned,
            "planned_runs": self.planned,
            "config": dict(self.config),
            "data": dict(self.data),
            "versions": versions(),
            "seconds": round(time.perf_counter() - self.started, 3),
            "summary": {name: summary(self.of(name)) for name in self.methods},
            "beside_plain": {
                name: {measure: asdict(gap) for measure, gap in gaps.items()}
                for name, gaps in beside_plain(self).items()
            },
            "runs": [asdict(run) for run in self.runs],
            "pictures": self.pictures,
        }

    def save(self, folder: Path) -> None:
        """Write results.json in one piece: whoever reads it sees the old one or the new one.

        Raises:
            Stop: If it cannot be written.
        """
        path = folder / FILE
        try:
            write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            raise Stop(f"The results cannot be written to {path} ({cause(error)}).") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file in one piece: whoever reads it, or is stopped meanwhile, finds the old one or the new one."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def prepare_folder(folder: Path) -> None:
    """Make the output folder, see that it can be written to, and put an earlier results.json aside.

    Raises:
        Stop: If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{FILE}.part"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
        if (folder / FILE).exists():
            os.replace(folder / FILE, folder / PREVIOUS)
    except OSError as error:
        raise Stop(
            f"The output folder {folder} cannot be written to ({cause(error)}): give another with --out."
        ) from error


def summary(runs: Sequence[Run]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation (of a sample; None for a single run) of every measure."""
    values = {
        name: np.array([getattr(run, name) for run in runs]) for name in (*MEASURES, "temperature", *SCALED)
    }
    return {
        name: {"mean": float(v.mean()), "sd": float(v.std(ddof=1)) if len(v) > 1 else None}
        for name, v in values.items()
    }


def beside_plain(results: Results) -> dict[str, dict[str, Paired]]:
    """Each other method's differences to plain training, over the seeds that both have finished."""
    plain = {run.seed: run for run in results.of(PLAIN)}
    found = {}
    for name in results.methods:
        pairs = [(run, plain[run.seed]) for run in results.of(name) if run.seed in plain]
        if name != PLAIN and pairs:
            found[name] = {
                measure: paired(
                    [getattr(own, measure) for own, _ in pairs],
                    [getattr(other, measure) for _, other in pairs],
                    smaller_is_better=measure in SMALLER_IS_BETTER,
                )
                for measure in (*MEASURES, *SCALED)
            }
    return found


def versions() -> dict[str, str | None]:
    """Versions of the packages that made the numbers."""
    packages = (
        "numpy",
        "torch",
        "paddlepaddle",
        "chainer",
        "jax",
        "flax",
        "keras",
        "mlxtend",
        "scikit-learn",
    )
    found: dict[str, str | None] = {"python": platform.python_version(), "mixlayers": __version__}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def best(results: Results, measure: str) -> str:
    """The method with the best mean."""
    means = {name: summary(results.of(name))[measure]["mean"] or 0.0 for name in results.methods}
    return (min if measure in SMALLER_IS_BETTER else max)(means, key=means.__getitem__)


def ties_with_best(results: Results, measure: str) -> set[str]:
    """The methods that are no further from the best one than the larger of the two standard deviations.

    A rough and careful rule that a reader can check on the table. The best one is not in the set, and neither is
    a method with a single run, which tells nothing.
    """
    moments = {name: summary(results.of(name))[measure] for name in results.methods}
    winner = best(results, measure)
    ties = set()
    for name, own in moments.items():
        spread = [m["sd"] for m in (own, moments[winner]) if m["sd"] is not None]
        gap = abs((own["mean"] or 0.0) - (moments[winner]["mean"] or 0.0))
        if name != winner and len(spread) == 2 and gap <= max(spread):
            ties.add(name)
    return ties
