"""What the pages of docs/evidence say of the records, and of the studies that have none yet."""

import json
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from evidence import GPU, Record, Study, check, command, jobs_of
from evidence.compared import NOTE

ROOT: Final = Path(__file__).parents[2]
RECORDS: Final = ROOT / "docs" / "evidence"
PLACE: Final = re.compile(r"^<!-- (\S+\.json) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)

BRIEF: Final = re.compile(r"^<!-- (\S+\.json), briefly -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
README: Final = ROOT / "README.md"
WIDEST: Final = 86
"""Columns of code that a page shows without scrolling."""


def studies() -> Mapping[str, Study]:
    """Every study, by name; this file's folder must be in sys.path, as it is for a script beside it."""
    from evidence.cifar.studies import STUDIES

    names = [path.stem for path in sorted((ROOT / "examples").glob("plot_*.py"))]
    found = [import_module(name).STUDY for name in names] + [asked.study() for asked in STUDIES.values()]
    return {study.name: study for study in found}


def forms(study: Study) -> Mapping[str, str]:
    """The forms that a page reports, by the name of their record."""
    tiers = {"full": study.full} | ({GPU: study.gpu} if study.gpu is not None else {})
    return {f"{study.name}{'_gpu' * (form == GPU)}.json": form for form in tiers}


def block(study: Study, record: Record) -> str:
    """What a page says of a record, between its two marks: the command, with what it was run, the tables."""
    made = ", ".join(f"{name} {record['versions'][name]}" for name in ("mixlayers", "torch", "numpy"))
    minutes = sum(run["seconds"] for run in record["runs"]) / 60
    time = f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"
    of = "" if record["settings"].get("device", "cpu") == "cpu" else " on a graphics card"
    time = f"{time} of processor time" if not of else f"{time}{of}"
    runs = f"{len(record['runs'])} runs{' in bfloat16' * record['settings'].get('bfloat16', False)}"
    facts = f"{runs}, {time}, with {made}."
    if "origin" in record:
        facts += f" Images: {record['origin']}."
    if not is_whole(study, record):
        count = f"{len(record['runs'])} of {len(jobs_of(study, record['settings']))}"
        facts = f"**Unfinished: {count} runs so far. The same command goes on.** {facts}"
    return f"{shown(record['command'])}\n\n{facts}\n\n{study.tables(record)}\n"


def shown(text: str) -> str:
    """A command as a block of a page, in two lines where it is wider than that."""
    return "    " + (text if len(text) <= WIDEST else text.replace(" --record ", " \\\n        --record "))


def waiting(study: Study, form: str) -> str:
    """What a page says of a study that nobody has run yet."""
    settings = (study.gpu or {}) if form == GPU else study.full
    text = command(study, {**settings, "data": "cifar10:PATH"}, form)
    runs = len(jobs_of(study, settings))
    return f"{shown(text)}\n\n**Ready, not run yet:** {runs} runs.\n"


def is_whole(study: Study, record: Record) -> bool:
    """Whether the record has every run of its settings, each once, in order."""
    wanted, runs = jobs_of(study, record["settings"]), record["runs"]
    return len(wanted) == len(runs) and all(
        job.items() <= run.items() for job, run in zip(wanted, runs, strict=True)
    )


def is_begun(study: Study, record: Record) -> bool:
    """Whether the record's runs are some of its settings', each once, in order."""
    places = iter(jobs_of(study, record["settings"]))
    return bool(record["runs"]) and all(
        any(job.items() <= run.items() for job in places) for run in record["runs"]
    )


def said(name: str, known: Mapping[str, Study]) -> str:
    """What a page has between the marks of a record's name, whether there is such a record or not.

    Raises:
        SystemExit: If neither a record nor a study has the name.
    """
    path = RECORDS / name
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        return block(known[record["study"]], record)
    for study in known.values():
        if name in forms(study):
            return waiting(study, forms(study)[name])
    raise SystemExit(f"A page has a place for {name}, but no study makes it.")


def briefly(name: str) -> str:
    """A record of CIFAR-10 in one narrow table."""
    from evidence.cifar.studies import STUDIES

    record = json.loads((RECORDS / name).read_text(encoding="utf-8"))
    return STUDIES[record["study"].removeprefix("cifar_")].brief(record)


def filled(text: str, known: Mapping[str, Study]) -> str:
    """A page with what it should say between its marks: how to read a gain, below the first table alone."""
    text = BRIEF.sub(lambda found: f"<!-- {found[1]}, briefly -->\n{briefly(found[1])}\n<!-- end -->", text)
    text = PLACE.sub(lambda found: f"<!-- {found[1]} -->\n\n{said(found[1], known)}\n<!-- end -->", text)
    first, note, others = text.partition(f"\n\n{NOTE}")
    return first + note + others.replace(f"\n\n{NOTE}", "")


def listing() -> str:
    """The studies on CIFAR-10 in plain words, and how far each has come."""
    from evidence.cifar.studies import STUDIES

    lines = []
    for asked in STUDIES.values():
        study = asked.study()
        lines.append(f"{asked.name}: {asked.question}")
        for name, form in forms(study).items():
            state = "ready, not run yet"
            if (RECORDS / name).exists():
                record = json.loads((RECORDS / name).read_text(encoding="utf-8"))
                done, all_runs = len(record["runs"]), len(jobs_of(study, record["settings"]))
                state = "finished" if done == all_runs else f"{done} of {all_runs} runs made"
            lines.append(f"    --{form:<5} {state}")
    return "\n".join(lines)


def main_of_all() -> None:
    """Print what every record says and check the claims of the finished ones; with --write, fill in the pages.

    Raises:
        SystemExit: If a claim fails, or a record has no place in its page.
    """
    known, placed = studies(), set()
    for page in (README, *sorted(RECORDS.glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        placed |= {found[1] for found in PLACE.finditer(text)}
        if "--write" in sys.argv[1:]:
            page.write_text(filled(text, known), encoding="utf-8")
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        study = known[record["study"]]
        print(f"{path.name}\n\n{block(study, record)}")
        if is_whole(study, record):
            check(study.claims(record))
        if path.name not in placed:
            raise SystemExit(f"No page in {RECORDS} has a place for {path.name}: give one the marks.")
        print()
