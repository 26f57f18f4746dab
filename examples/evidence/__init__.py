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

from evidence.networks import fingerprint, pictures
from mixlayers.cli.data import check_name
from mixlayers.cli.results import versions, write_whole
from mixlayers.cli.stop import Stop

Job = dict[str, Any]
Run = dict[str, Any]
Record = dict[str, Any]
Claim = tuple[str, bool]

CHOICES: Final = ("data", "labels", "seeds")
GPU: Final = "gpu"


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
        gpu: Settings of the form for one graphics card; None where there is none.
        script: What is typed after `python`, by default examples/plot_<name>.py.
        fingerprint: Of what its runs depend on.
    """

    name: str
    quick: Job
    full: Job
    jobs: Callable[[Job, int], list[Job]]
    work: Callable[[Job, Job], Run]
    tables: Callable[[Record], str]
    claims: Callable[[Record], list[Claim]]
    draw: Callable[[Record], Figure]
    gpu: Job | None = None
    script: str = ""
    fingerprint: Callable[[], str] = fingerprint

    @property
    def typed(self) -> list[str]:
        return ["python", *(self.script or f"examples/plot_{self.name}.py").split()]


def main(study: Study, arguments: Sequence[str] | None = None) -> None:
    """Run a study as its command line asks: tables, claims, and files only where told to write them.

    Raises:
        SystemExit: If the images cannot be read, the record cannot be gone on with, or a claim fails.
    """
    options = read_options(study, sys.argv[1:] if arguments is None else arguments)
    try:
        record = collect(study, settings_of(study, options), form_of(options), options.record)
    except Stop as stop:
        raise SystemExit(str(stop)) from None
    print(study.tables(record))
    picture = study.draw(record)
    if options.out:
        picture.savefig(options.out, dpi=150, facecolor="white")
    print()
    check(study.claims(record))


def read_options(study: Study, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"The study {study.name}.")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--full", action="store_true", help="what docs/evidence reports")
    if study.gpu is not None:
        forms.add_argument(
            "--gpu", action="store_true", help="the same with larger networks, on a graphics card"
        )
    own = study.full.get("data") == "cifar10"
    parser.add_argument(
        "--data",
        required=own,
        help=f"mnist5k, fashion or cifar10:PATH{'' if own else ', instead of its own data'}",
    )
    parser.add_argument("--labels", type=int, nargs="+", help="how many labelled images per class")
    parser.add_argument("--seeds", type=int, help="how many seeds, instead of the study's own number")
    parser.add_argument("--record", type=Path, help="write every run to this JSON file; go on where it ends")
    parser.add_argument("--out", type=Path, help="draw the picture into this file")
    options = parser.parse_args(arguments)
    if options.data:
        try:
            check_name(options.data)
        except Stop as stop:
            parser.error(str(stop))
    return options


def form_of(options: argparse.Namespace) -> str:
    """ "quick", "full" or "gpu"."""
    return GPU if getattr(options, GPU, False) else "full" if options.full else "quick"


def settings_of(study: Study, options: argparse.Namespace) -> Job:
    """The study's settings, with what the options change."""
    changes = {key: value for key in CHOICES if (value := getattr(options, key))}
    base = {"quick": study.quick, "full": study.full, GPU: study.gpu}[form_of(options)]
    return {**(base or {}), **changes}


def public(settings: Job) -> Job:
    """The settings as a record holds them: where somebody keeps CIFAR-10 is his own affair."""
    return {key: value.partition(":")[0] if key == "data" else value for key, value in settings.items()}


def jobs_of(study: Study, settings: Job) -> list[Job]:
    """All jobs of a record, in its order: those of the first seed first."""
    return [{**job, "seed": seed} for seed in range(settings["seeds"]) for job in study.jobs(settings, seed)]


def collect(study: Study, settings: Job, form: str, path: Path | None) -> Record:
    """Make all runs; those that the file already has are not made again.

    Raises:
        SystemExit: If the file has runs that this record would lose.
    """
    torch.set_num_threads(1)
    record: Record = {
        "study": study.name,
        "command": command(study, settings, form),
        "versions": versions() | {"matplotlib": matplotlib.__version__},
        "fingerprint": study.fingerprint(),
        "settings": public(settings),
        "runs": [],
    }
    if settings.get("data", "").startswith("cifar10:"):
        record["origin"] = pictures(settings["data"]).origin
    wanted = jobs_of(study, settings)
    known = known_runs(path, record, wanted)
    for place, job in enumerate(wanted):
        run = made(known, job)
        if run is None:
            clock = time.perf_counter if form == GPU else time.process_time
            started = clock()
            run = {**job, **study.work(job, settings)}
            run["seconds"] = round(clock() - started, 1)
        record["runs"].append(run)
        if path is not None:
            later = [run for job in wanted[place + 1 :] if (run := made(known, job)) is not None]
            text = json.dumps({**record, "runs": record["runs"] + later}, indent=1)
            write_whole(path, f"{text}\n")
    return record


def made(known: Sequence[Run], job: Job) -> Run | None:
    """The finished run of a job."""
    return next((run for run in known if job.items() <= run.items()), None)


def known_runs(path: Path | None, record: Record, wanted: Sequence[Job]) -> list[Run]:
    """The runs that a file already has.

    Raises:
        SystemExit: If they were made otherwise, or are not among those that are wanted.
    """
    if path is None or not path.exists():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    listed = [key for key, value in record["settings"].items() if isinstance(value, list)]
    differing = [
        *(key for key in ("study", "fingerprint", "origin") if earlier.get(key) != record.get(key)),
        *(
            key
            for key, value in record["settings"].items()
            if key not in (*listed, "seeds") and earlier["settings"].get(key) != value
        ),
    ]
    if differing:
        raise SystemExit(
            f"{path} has {len(earlier['runs'])} runs that were made with another {', '.join(differing)}: give another "
            "file, or move this one away."
        )
    lost = [run for run in earlier["runs"] if not any(job.items() <= run.items() for job in wanted)]
    if lost:
        raise SystemExit(
            f"{path} has {len(lost)} runs that were not asked for, and would lose them: ask for them too, as with "
            f"{earlier['command']}, or give another file."
        )
    return list(earlier["runs"])


def command(study: Study, settings: Job, form: str) -> str:
    """What to type to get such a record."""
    base = {"quick": study.quick, "full": study.full, GPU: study.gpu}[form] or {}
    words = [*study.typed, *([] if form == "quick" else [f"--{form}"])]
    for key in CHOICES:
        if (value := settings.get(key)) != base.get(key):
            if str(value).startswith("cifar10:"):
                value = "cifar10:PATH"
            words += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    kind = public(settings).get("data")
    parts = [study.name, *([kind] if kind != study.full.get("data") else []), *([GPU] if form == GPU else [])]
    return " ".join([*words, "--record", f"docs/evidence/{'_'.join(parts)}.json"])


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
