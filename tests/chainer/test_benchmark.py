"""The benchmark runs; nothing here looks at a time."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs():
    path = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "benchmarks/mixing_chainer.py", "--tiny"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in ("step: Manifold Mixup", "share: PatchUp soft", "backward: 4x16x8x8"):
        assert f"| {line}" in done.stdout
