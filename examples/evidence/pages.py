"""What the pages of docs/evidence say of the records."""

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from evidence import Record, Study, check

ROOT: Final = Path(__file__).parents[2]
RECORDS: Final = ROOT / "docs" / "evidence"


def studies() -> Mapping[str, Study]:
    """Every study, by name; this file's folder must be in sys.path, as it is for a script beside it."""
    names = [path.stem for path in sorted((ROOT / "examples").glob("plot_*.py"))]
    return {study.name: study for name in names if (study := import_module(name).STUDY)}


def block(study: Study, record: Record) -> str:
    """What a page says of a record, between its two marks: the command, with what it was run, the tables."""
    made = ", ".join(f"{name} {record['versions'][name]}" for name in ("mixlayers", "torch", "numpy"))
    minutes = sum(run["seconds"] for run in record["runs"]) / 60
    time = f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"
    facts = f"{len(record['runs'])} runs, {time} of processor time, with {made}."
    return f"    {record['command']}\n\n{facts}\n\n{study.tables(record)}\n"


def is_whole(study: Study, record: Record) -> bool:
    """Whether the record has every run of its settings, each once, in order."""
    settings, runs = record["settings"], record["runs"]
    wanted = [
        {**job, "seed": seed} for seed in range(settings["seeds"]) for job in study.jobs(settings, seed)
    ]
    return len(wanted) == len(runs) and all(
        job.items() <= run.items() for job, run in zip(wanted, runs, strict=True)
    )


def main_of_all() -> None:
    """Print what every page should say; with --write, say it there.

    Raises:
        SystemExit: If a record is unfinished, a claim fails, or a page has no place for its record.
    """
    known, unfinished = studies(), []
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        study = known[record["study"]]
        if not is_whole(study, record):
            unfinished.append(f"{path.name} is unfinished; go on with it: {record['command']}")
            continue
        text = block(study, record)
        print(f"{path.name}\n\n{text}")
        check(study.claims(record))
        print()
        if "--write" in sys.argv[1:]:
            page = RECORDS / f"{study.name}.md"
            before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {path.name} -->\n")
            _, end, after = rest.partition("<!-- end -->")
            if not end:
                raise SystemExit(f"{page} has no place for {path.name}: give it the marks.")
            page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
    if unfinished:
        raise SystemExit("\n".join(unfinished))
