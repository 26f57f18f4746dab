"""Prove that mixlayers is right on a GPU, and measure what it costs there: one command, ten minutes.

    python benchmarks/gpu.py [--device cuda] [--parts mixing steps ...] [--out build/gpu.json] [--page docs/on_a_gpu.md]

Needs a copy of the repository and a Python (3.10 to 3.13) with PyTorch 2.8 or newer; nothing is installed, fetched or
compiled ahead, and other packages (CuPy, JAX, PaddlePaddle, timm, torchvision, kornia) are looked at where they are.
Each part runs in a process of its own, so that a crash of one leaves the others; the exit status is 1 if anything
failed. `--device cpu` runs the same code without a GPU, at toy sizes: what it times there is of no worth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(path) for path in (ROOT, ROOT / "backends", ROOT / "benchmarks")]
from parts.page import put  # noqa: E402
from parts.report import commit, versions  # noqa: E402

PARTS = {
    "mixing": ("proofs", "mixing"),
    "no_wait": ("proofs", "no_wait"),
    "training": ("training", "training"),
    "graphs": ("training", "graphs"),
    "iebn": ("iebn", "iebn_proofs"),
    "bodies": ("bodies", "torch_bodies"),
    "blend": ("speed", "blends"),
    "host": ("speed", "host"),
    "steps": ("speed", "steps"),
    "input": ("speed", "inputs"),
    "iebn_speed": ("iebn", "iebn_speed"),
    "chainer": ("bodies", "chainer_bodies"),
    "jax": ("bodies", "jax_bodies"),
    "paddle": ("bodies", "paddle_bodies"),
}
"""Where each part is, in the order in which they run: what is most wanted to know comes first."""

PACKAGES = (
    "torch", "numpy", "triton", "timm", "torchvision", "kornia", "cupy", "cupy-cuda12x", "cupy-cuda13x", "chainer",
    "jax", "paddlepaddle", "paddlepaddle-gpu",
)  # fmt: skip
SKIPPED = {"__pycache__", ".git", ".venv", ".venv-vision", "build", "dist"}


def main() -> int:
    """Run the parts, one process each; write what they found."""
    options = _options()
    if options.part:
        return _run_here(options)
    begun, started = datetime.now(timezone.utc), time.perf_counter()
    found: dict[str, Any] = {
        "date": begun.isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "commit": sources(),
        "machine": {},
        "versions": {},
        "parts": {},
    }
    for part in options.parts:
        left = 60 * options.minutes - (time.perf_counter() - started)
        print(f"\n{part}", flush=True)
        lines, ended = _run_apart(part, options, left)
        head = next((line for line in lines if "machine" in line), None)
        if head is None and not found["machine"] and left > 0:
            return 1  # not even the device was found, and no other part would find it; why has been printed
        found.update(head or {})
        results = [line for line in lines if "outcome" in line]
        if ended:
            results.append(
                {"what": f"the part {part!r}", "outcome": "FAILS", "detail": ended, "rows": [], "seconds": 0}
            )
            print(f"FAILS     the part {part!r}: {ended}", flush=True)
        found["parts"][part] = {"found": results}
        found["seconds"] = round(time.perf_counter() - started, 1)
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return _conclude(found, options)


def _conclude(found: dict[str, Any], options: argparse.Namespace) -> int:
    from device.page import circumstances, section

    outcomes = Counter(each["outcome"] for part in found["parts"].values() for each in part["found"])
    if options.page is not None:
        put(options.page, "gpu", section(found))
    if found["machine"]:
        print(f"\n{circumstances(found)}")
    print(", ".join(f"{outcome} {number}" for outcome, number in outcomes.items()))
    return int("FAILS" in outcomes or not outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to see that everything runs")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="run only these, in this order"
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="begin no part after so many; end what runs then"
    )
    parser.add_argument("--tiny", action="store_true", help="toy sizes on a GPU too")
    parser.add_argument("--out", type=Path, help="the JSON file")
    parser.add_argument("--page", type=Path, help="the page whose section is written anew")
    parser.add_argument(
        "--part", choices=PARTS, help=argparse.SUPPRESS
    )  # this process runs one, and writes there:
    parser.add_argument("--lines", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_apart(part: str, options: argparse.Namespace, left: float) -> tuple[list[dict[str, Any]], str]:
    """A part in a process of its own: what it wrote, and what ended it before its end."""
    if left <= 0:
        return [], f"no time was left: {options.minutes:g} minutes were spent (--minutes)"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--lines", str(path)]
        command += ["--device", options.device, *["--tiny"] * options.tiny]
        ended = ""
        try:
            status = subprocess.run(command, timeout=left, check=False).returncode
            ended = f"its process ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            ended = f"it was ended after {left:.0f} s: {options.minutes:g} minutes were spent (--minutes)"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines], ended


def _run_here(options: argparse.Namespace) -> int:
    """A part in this process; each finding is printed and written as it comes."""
    from device.cases import HOLDS, Case, settle
    from device.machine import Device

    device = Device(options.device, toy=options.tiny or options.device == "cpu")
    _write(options.lines, {"machine": device.describe(), "versions": versions(["mixlayers", *PACKAGES])})
    module, name = PARTS[options.part]
    part: Callable[..., Any] = getattr(import_module(f"device.{module}"), name)

    def begun() -> Iterator[Case]:
        yield from part(device)

    cases, made = begun(), list[Case]()
    while True:
        # making the next case may be what fails, or finds that the part has to be left out
        result = settle(Case(f"the part {options.part!r}", lambda: made.extend(islice(cases, 1))))
        if result.outcome == HOLDS:
            if not made:
                return 0
            result = settle(made.pop())
        print(result, flush=True)
        _write(options.lines, result.to_dict())


def _write(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def sources() -> str:
    """The commit, where git knows it, and a digest of the sources, which a plain copy has too."""
    digest = hashlib.sha256()
    for path in sorted(ROOT.rglob("*.py")):
        if not SKIPPED & set(path.relative_to(ROOT).parts):
            digest.update(path.read_bytes())
    return f"{commit()}, sources {digest.hexdigest()[:12]}"


if __name__ == "__main__":
    sys.exit(main())
