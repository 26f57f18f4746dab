"""What every benchmark's script does with its rows: print them, and write them where they are asked for."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from parts.page import put
from parts.timing import FULL, QUICK, TINY, Row, Scale

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MIXING, IEBN = "benchmarks/mixing.py --parts blend mask step small", "benchmarks/iebn.py"
MATTERS = {
    "Manifold Mixup in a training step, ResNet-18": (MIXING, "step: Manifold Mixup, ResNet-18, batch 128"),
    "PatchUp in a training step, ResNet-18": (MIXING, "step: PatchUp soft, ResNet-18, batch 128"),
    "a compiled training step that mixes": (
        "benchmarks/mixing.py --quick --parts compiled",
        "compiled step: Manifold Mixup, ResNet-18, width 32, batch 64",
    ),
    "Mixup in the loader instead, 8-bit images": ("benchmarks/augment.py", "loading uint8: Mixup"),
    "an IEBN layer in training, median of 12 shapes": (IEBN, "drawn: the median of 12 shapes"),
    "ResNet-18 with IEBN in training": (IEBN, "step: ResNet-18, batch 128, width 64"),
}
"""The rows that docs/results.md begins with: what each tells, and of which command which row it is."""
KEEP_BLOCKS = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"
Part = Callable[[Scale], Iterable[Row]]


def main(
    parts: Mapping[str, Part],
    packages: Sequence[str],
    start: Callable[[int], object] | None = None,
    *,
    threads: int = 1,
    tuned: str = "",
) -> None:
    """Run a script's parts, print the table, write what the options ask for.

    Args:
        parts: What makes the rows, by name.
        packages: Of which the versions are told.
        start: Called before all, with the number of threads. Without it $OMP_NUM_THREADS says how many.
        threads: How many, by default.
        tuned: The part that a full run does once more, in a process whose malloc does not map large blocks afresh.
    """
    options = _options(parts, threads if start else None)
    if start:
        start(options.threads)
    found = measured(lambda: _run(parts, options, tuned), options.threads, packages)
    rows = [Row.from_dict(row) for row in found["rows"]]
    print(f"{table(rows)}\n\n{circumstances(found)}; {found['seconds']:.0f} s. Median [quartiles].")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.record:
        record(_command(), circumstances(found), rows)


def _options(parts: Mapping[str, Part], threads: int | None) -> argparse.Namespace:
    about = (sys.modules["__main__"].__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that everything runs")
    if threads is None:
        parser.set_defaults(threads=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    else:
        parser.add_argument(
            "--threads", type=int, default=threads, help="of the framework (default: %(default)s)"
        )
    parser.add_argument("--out", type=Path, help="write the results there as JSON")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="run only these")
    parser.add_argument("--record", action="store_true", help="write the table into docs/results.md")
    options = parser.parse_args()
    if options.record and _command() not in sections():
        parser.error(f"docs/results.md has no section of `{_command()}`; it has {', '.join(sections())}.")
    return options


def sections() -> list[str]:
    """The commands that head the sections of docs/results.md."""
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    return re.findall(r"^## .*python (benchmarks/.*)`$", page, re.MULTILINE)


def _command() -> str:
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return f"benchmarks/{' '.join(word for word in words if word != '--record')}"


def _run(parts: Mapping[str, Part], options: argparse.Namespace, tuned: str) -> Iterator[Row]:
    scale = TINY if options.tiny else QUICK if options.quick else FULL
    malloc = "tuned" if "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "") else "default"
    for name in options.parts:
        for row in parts[name](scale):
            row = replace(row, malloc=malloc)
            print(row, file=sys.stderr, flush=True)  # as it goes; the table comes at the end
            yield row
        if name == tuned and scale.more and malloc == "default":
            yield from _with_blocks_kept(name, options)


def _with_blocks_kept(part: str, options: argparse.Namespace) -> list[Row]:
    """The part again in a process of its own: malloc reads how it is tuned at the start."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, sys.argv[0], "--parts", part, "--threads", str(options.threads)]
        command += ["--out", str(out), *["--tiny"] * options.tiny]
        environment = {**os.environ, "GLIBC_TUNABLES": KEEP_BLOCKS}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return [Row.from_dict(row) for row in json.loads(out.read_text(encoding="utf-8"))["rows"]]


def measured(run: Callable[[], Iterable[Row]], threads: int, packages: Sequence[str]) -> dict[str, Any]:
    """The rows, with what they were run on."""
    begun, load = datetime.now(timezone.utc), os.getloadavg()[0]
    rows = [row.to_dict() for row in run()]
    return {
        "date": begun.isoformat(timespec="seconds"),
        "commit": commit(),
        "seconds": round((datetime.now(timezone.utc) - begun).total_seconds(), 1),
        "load": [load, os.getloadavg()[0]],
        "threads": threads,
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "versions": versions(["mixlayers", *packages]),
        "command": " ".join(["python", *sys.argv]),
        "rows": rows,
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of these packages, where they are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def circumstances(found: Mapping[str, Any]) -> str:
    """When, and on what."""
    before, after = found["load"]
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    return (
        f"{found['date'][:10]}, commit {found['commit']}, {found['threads']} threads, "
        f"load {before:.1f} to {after:.1f} on {found['cores']} cores; {found['machine']}; {versions}"
    )


def commit(root: Path = ROOT) -> str:
    """The commit whose code runs, with "+" where files differ from it; "unknown" without git."""
    try:
        git = partial(subprocess.run, cwd=root, capture_output=True, text=True, check=True)
        head = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--untracked-files=no", "--", ":!docs"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "+" * bool(changed)


def record(command: str, ran: str, rows: Sequence[Row]) -> None:
    """Write a section's record into docs/results.json, its table and the summary into docs/results.md."""
    path = DOCS / "results.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    records[command] = {"ran": ran, "table": table(rows).splitlines()}
    put(DOCS / "results.md", "measured", block(records[command]), after=f"{command}`\n")
    kept = {each: records[each] for each in sections() if each in records}
    put(DOCS / "results.md", "summary", summary(kept))
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def block(kept: Mapping[str, Any]) -> str:
    """A record as its page has it between the marks: the table, when it was measured, at which commit, on what."""
    return "\n".join([*kept["table"], "", f"{kept['ran']}."])


def summary(records: Mapping[str, Any]) -> str:
    """What docs/results.md begins with: the rows that matter, and how many aims were missed."""
    lines = ["| what | measured | others | aim | met |", "|---|---|---|---|---|"]
    for told, (command, what) in MATTERS.items():
        for row in _rows(records.get(command, {}).get("table", ())):
            if row[0] == what:
                lines.append(f"| {told} | {row[3]} {row[2]} | {row[4]} | {row[5]} | {row[6]} |")
                break
    met = [row[6] for record in records.values() for row in _rows(record["table"])]
    aims, missed = len(met) - met.count(""), met.count("NO")
    return "\n".join([*lines, "", f"Of the {aims} aims in all tables {missed} were missed."])


def _rows(table: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a table as `table` prints it; those of another form are left out."""
    for line in table:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0] != "what" and set(cells[0]) != {"-"}:
            yield cells


def table(rows: Sequence[Row]) -> str:
    """The rows as plain text."""
    lines = [("what", "malloc", "unit", "ours", "rivals", "limit", "met")]
    for row in rows:
        rivals = "; ".join(f"{name} {spread.median:.3g}" for name, spread in row.rivals.items())
        limit = "" if row.limit is None else f"{row.limit:g}"
        met = {None: "", True: "yes", False: "NO"}[row.met]
        lines.append((f"{row.part}: {row.what}", row.malloc, row.unit, str(row.ours), rivals, limit, met))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    lines.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
