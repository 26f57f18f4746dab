"""The benchmark runs, without torchvision too; nothing here looks at a time."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs():
    path = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "benchmarks/augment.py", "--tiny"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in (
        "RandAugment: PIL",
        "crop, flip, RandAugment, Normalize: PIL",
        "RandAugment's parts: draw",
        "loading uint8: Mixup",
    ):
        assert f"| {line}" in done.stdout
