"""What the plot_*.py examples share: options, the record of all runs, tables and claims.

`python examples/evidence` prints the tables of docs/evidence from its records, and says which claims hold.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from evidence.networks import fingerprint
from mixlayers.cli.results import versions

Job = dict[str, Any]
Run = dict[str, Any]
Record = dict[str, Any]
Claim = tuple[str, bool]

CHOICES: Final = ("data", "labels", "seeds")


@dataclass(frozen=True)
class Study:
    """One example: what it runs and how it reports.

    Attributes:
        name: Of its record, docs/evidence/<name>.json.
        quick, full: Settings of the two forms; "seeds" is how many.
        jobs: All jobs of a seed: what tells its runs apart.
        work: Do one job; returns what was measured.
        tables: The record as Markdown. A function of the record alone, so that pages can be checked.
        claims: Sentences, and whether the record bears them out.
        draw: The picture.
    """

    name: str
    quick: Job
    full: Job
    jobs: Callable[[Job, int], list[Job]]
    work: Callable[[Job, Job], Run]
    tables: Callable[[Record], str]
    claims: Callable[[Record], list[Claim]]
    draw: Callable[[Record], Figure]


def main(study: Study) -> None:
    """Run a study as its command line asks: tables, claims, and files only where told to write them."""
    options = read_options(study, sys.argv[1:])
    record = collect(study, settings_of(study, options), options.full, options.record)
    print(study.tables(record))
    picture = study.draw(record)
    if options.out:
        picture.savefig(options.out, dpi=150, facecolor="white")
    print()
    check(study.claims(record))


def read_options(study: Study, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"The study {study.name}.")
    parser.add_argument("--full", action="store_true", help="what docs/evidence reports")
    parser.add_argument("--data", choices=("mnist5k", "fashion"), help="instead of the study's own data")
    parser.add_argument("--labels", type=int, nargs="+", help="how many labelled images per class")
    parser.add_argument("--seeds", type=int, help="how many seeds, instead of the study's own number")
    parser.add_argument("--record", type=Path, help="write every run to this JSON file; go on where it ends")
    parser.add_argument("--out", type=Path, help="draw the picture into this file")
    return parser.parse_args(arguments)


def settings_of(study: Study, options: argparse.Namespace) -> Job:
    """The study's settings, with what the options change."""
    changes = {key: value for key in CHOICES if (value := getattr(options, key))}
    return {**(study.full if options.full else study.quick), **changes}


def collect(study: Study, settings: Job, full: bool, path: Path | None) -> Record:
    """Make all runs, those of the first seed first; runs that the file already has are not made again."""
    torch.set_num_threads(1)
    record: Record = {
        "study": study.name,
        "command": command(study, settings, full),
        "versions": versions() | {"matplotlib": matplotlib.__version__},
        "fingerprint": fingerprint(),
        "settings": settings,
        "runs": [],
    }
    known: list[Run] = []
    if path is not None and path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        same = earlier["fingerprint"] == record["fingerprint"] and all(
            earlier["settings"][key] == settings[key] for key in settings if key not in ("labels", "seeds")
        )
        known = earlier["runs"] if same else []
    for seed in range(settings["seeds"]):
        for job in study.jobs(settings, seed):
            job = {**job, "seed": seed}
            run = next((run for run in known if all(run[key] == job[key] for key in job)), None)
            if run is None:
                started = time.process_time()
                run = {**job, **study.work(job, settings)}
                run["seconds"] = round(time.process_time() - started, 1)
            record["runs"].append(run)
            if path is not None:
                path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def command(study: Study, settings: Job, full: bool) -> str:
    """What to type to get such a record."""
    base = study.full if full else study.quick
    words = ["python", f"examples/plot_{study.name}.py", *(["--full"] if full else [])]
    for key in CHOICES:
        if settings.get(key) != base.get(key):
            value = settings[key]
            words += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    name = (
        study.name if settings.get("data") == study.full.get("data") else f"{study.name}_{settings['data']}"
    )
    return " ".join([*words, "--record", f"docs/evidence/{name}.json"])


def check(claims: Iterable[Claim]) -> None:
    """Print what holds; end with a sentence if something does not.

    Raises:
        SystemExit: With the claims that failed.
    """
    failed = []
    for sentence, holds in claims:
        print(f"{'holds' if holds else 'FAILS'}: {sentence}")
        failed += [] if holds else [sentence]
    if failed:
        raise SystemExit(f"No longer true: {' '.join(failed)}")


def spread(values: Iterable[float], digits: int, factor: float = 1.0) -> str:
    """Mean ± standard deviation of a sample; of a single value the value."""
    array = factor * np.array(list(values))
    mean = f"{array.mean():.{digits}f}"
    return mean if len(array) < 2 else f"{mean} ± {array.std(ddof=1):.{digits}f}"


def of(runs: Sequence[Run], measure: str, **which: Any) -> np.ndarray:
    """A measure of the runs that have these values, by seed."""
    found = [run for run in runs if all(run[key] == value for key, value in which.items())]
    return np.array([run[measure] for run in sorted(found, key=lambda run: run["seed"])])


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table under its title."""
    lines = [title, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def figure(width: float, height: float) -> Figure:
    """A white figure that the gallery shows."""
    return pyplot.figure(figsize=(width, height), layout="constrained", facecolor="white")
