"""The race: mixing by this library, by its peers and by the published formulas, each at its documented best.

    python benchmarks/race.py [--quick] [--threads 2] [--parts ...]
                              [--out docs/race.json --page docs/peers.md --picture docs/pictures/race.png]

Run it with a Python that has the peers (`make race`); what is not installed is left out, and $PADDLECLAS names a
checkout of PaddleClas. Rivals take turns in one process, and medians and quartiles of the ratios of neighbouring runs
are shown. Parts that are not run, or cannot be run here, stay in the JSON as they were.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from parts.page import put
from parts.report import circumstances, measured
from parts.timing import FULL, QUICK, TINY, Row, Scale
from peers.loading import import_rows, loader_rows, paddle_rows
from peers.operations import memory_rows, operation_rows, scaling_rows
from peers.training import layer_rows, step_rows

PARTS = {
    "operation": operation_rows,
    "memory": memory_rows,
    "step": step_rows,
    "loader": loader_rows,
    "paddle": paddle_rows,
    "scaling": scaling_rows,
    "layers": layer_rows,
    "import": import_rows,
}
PACKAGES = (
    "torch", "numpy", "timm", "torchvision", "kornia", "keras", "fastai", "mixup", "torchbearer", "paddlepaddle",
)  # fmt: skip


def run(part: str, scale: Scale) -> dict[str, Any]:
    """One part's rows, with what they were run on."""
    return measured(lambda: PARTS[part](scale), torch.get_num_threads(), PACKAGES)


def table(parts: dict[str, dict[str, Any]]) -> str:
    """The rows for the page, with a verdict: whom ours is slower than, all quartiles agreeing."""
    lines = ["| what | ours | unit | rivals | verdict |", "|---|---|---|---|---|"]
    for data in (row for part in parts.values() for row in part["rows"]):
        row = Row.from_dict(data)
        rivals = "; ".join(f"{name} {spread.median:.3g}" for name, spread in row.rivals.items())
        lines.append(f"| {row.part}: {row.what} | {row.ours} | {row.unit} | {rivals} | {verdict(row)} |")
    commands = {name: part["command"].partition(" --out")[0] for name, part in parts.items()}
    lines += ["", *(f"- {name}: `{commands[name]}` on {circumstances(part)}" for name, part in parts.items())]
    return "\n".join(lines)


def verdict(row: Row) -> str:
    """Where a limit was promised: whether it is met. Otherwise which rivals take less, or as much."""
    if row.limit is not None:
        return f"{'met' if row.met else '**missed**'} (at most {row.limit:.3g})"
    if not row.rivals:
        return ""
    relative = "x ours" in row.unit
    alike = 0.05 if row.part == "memory" else 0.0
    level = (1.0, 1.0) if relative else (row.ours.low - alike, row.ours.high + alike)
    less = [name for name, spread in row.rivals.items() if spread.high < level[0]]
    more = [name for name, spread in row.rivals.items() if spread.low > level[1]]
    word = "more" if row.part == "memory" else "slower"
    losing = f"**{word} than {', '.join(less)}**" if less else ""
    even = [name for name in row.rivals if name not in less + more]
    near = f"level with {', '.join(even)}" if even else ""
    return "; ".join(filter(None, (losing, near))) or "less than all" * (row.part == "memory") or "fastest"


def main() -> None:
    """Run the parts, merge, write, draw."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    scale = TINY if options.tiny else QUICK if options.quick else FULL
    known: dict[str, dict[str, Any]] = {}
    if options.out is not None and options.out.exists():
        known = json.loads(options.out.read_text(encoding="utf-8"))
    for part in options.parts:
        found = run(part, scale)
        if found["rows"] or part not in known:
            known[part] = found
        print(f"{part}: {found['seconds']} s", file=sys.stderr)
        if options.out is not None:
            options.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    parts = {name: known[name] for name in PARTS if name in known}
    if options.page is not None:
        put(options.page, "race", table(parts))
    if options.picture is not None:
        from peers.picture import draw

        draw(parts, options.picture)
    print(table(parts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Race the peers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that everything runs")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: 2)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="run only these")
    parser.add_argument("--out", type=Path, help="the JSON file; parts that are not run are kept")
    parser.add_argument("--page", type=Path, help="the page whose table is written anew")
    parser.add_argument("--picture", type=Path, help="draw it there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
