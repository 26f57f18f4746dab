"""What was found, as docs/on_a_gpu.md shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from device.cases import FAILS, HOLDS, LEFT_OUT
from parts.timing import Row


def section(found: Mapping[str, Any]) -> str:
    """The machine, what holds and what does not, and a table of what was measured."""
    results = [(part, each) for part, results in found["parts"].items() for each in results["found"]]
    lines = [f"{circumstances(found)}.", ""]
    for outcome, title in ((FAILS, "Fails"), (HOLDS, "Holds"), (LEFT_OUT, "Left out")):
        own = [(part, each) for part, each in results if each["outcome"] == outcome]
        if own:
            lines += [f"**{title}** ({len(own)})", "", *_listed(own), ""]
    rows = [Row.from_dict(row) for _, each in results for row in each["rows"]]
    if rows:
        lines += [
            "| what | median [quartiles] | unit | beside it |",
            "|---|---|---|---|",
            *map(_line, rows),
            "",
        ]
    return "\n".join(lines).rstrip()


def circumstances(found: Mapping[str, Any]) -> str:
    """When, on what, of which commit."""
    machine, versions = found["machine"], found["versions"]
    device = machine.get("gpu", f"{machine['cores']} cores, no GPU")
    cuda = f", CUDA {machine['cuda']}" if machine.get("cuda") else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{found['date'][:10]}, `{found['command']}`, {found['seconds']:.0f} s on {device}{cuda}; Python "
        f"{machine['python']}, {packages}; commit {found['commit']}"
    )


def _listed(found: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    for _, each in found:
        said = f": {each['detail']}" if each["detail"] else ""
        yield f"- {each['what']}{said}"


def _line(row: Row) -> str:
    beside = "; ".join(f"{name} {spread.median:.3g}" for name, spread in row.rivals.items())
    return f"| {row.part}: {row.what} | {row.ours} | {row.unit} | {beside} |"
