"""Time what mixing costs, and compare it with what is promised.

    python benchmarks/mixing.py [--quick] [--threads 2] [--out results.json]

Everything is a ratio, or a share of a training step: rivals take turns in one process, and the medians and
quartiles of the ratios are shown. The full run takes a few minutes, --quick less than one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts.compiled import compiled_rows
from parts.steps import small_rows, step_rows
from parts.tensors import blend_rows, mask_rows
from parts.timing import FULL, QUICK, TINY, Row, table

import mixlayers

PARTS = {
    "blend": blend_rows,
    "mask": mask_rows,
    "step": step_rows,
    "small": small_rows,
    "compiled": compiled_rows,
}
KEEP_BLOCKS = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"


def main() -> None:
    """Run the parts, print the table, write the JSON."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    scale = TINY if options.tiny else QUICK if options.quick else FULL
    begun, load = datetime.now(timezone.utc), os.getloadavg()
    rows: list[Row] = []
    for name in options.parts:
        rows += PARTS[name](scale)
        if name == "blend" and scale.more and "mmap_threshold" not in os.environ.get("GLIBC_TUNABLES", ""):
            rows += _with_blocks_kept()
    results = {**_machine(options.threads), "load_before": load, "load_after": os.getloadavg()}
    results |= {
        "date": begun.isoformat(timespec="seconds"),
        "seconds": (datetime.now(timezone.utc) - begun).total_seconds(),
        "command": " ".join(["python", *sys.argv]),
        "rows": [row.to_dict() for row in rows],
    }
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(rows))
    print(
        f"\n{options.threads} threads, load average {load[0]:.2f} before and {results['load_after'][0]:.2f} after "
        f"on {os.cpu_count()} cores, {results['seconds']:.0f} s; {_versions(results)}\n"
        "Median [quartiles]. Page faults of large blocks count with malloc's default, not where it is tuned."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time what mixing costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that everything runs")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: 2)")
    parser.add_argument("--out", type=Path, help="write the results there as JSON")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="run only these")
    return parser.parse_args()


def _with_blocks_kept() -> list[Row]:
    """The blend again, in a process whose malloc does not map large blocks afresh: it reads this at its start."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        size = [flag for flag in ("--quick", "--tiny") if flag in sys.argv]
        threads = str(torch.get_num_threads())
        command = [
            sys.executable,
            __file__,
            "--parts",
            "blend",
            "--threads",
            threads,
            "--out",
            str(out),
            *size,
        ]
        environment = {**os.environ, "GLIBC_TUNABLES": KEEP_BLOCKS}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    return [Row.from_dict({**row, "malloc": "tuned"}) for row in rows]


def _machine(threads: int) -> dict[str, Any]:
    return {
        "mixlayers": mixlayers.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": threads,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
    }


def _versions(results: dict[str, Any]) -> str:
    return ", ".join(f"{name} {results[name]}" for name in ("mixlayers", "torch", "numpy", "python"))


if __name__ == "__main__":
    main()
