"""The benchmarks run; nothing here looks at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "rows"),
    [
        ("mixing_chainer", ["step: Manifold Mixup", "share: PatchUp soft", "backward: 4x16x8x8"]),
        ("iebn_chainer", ["BatchNormalization: 4x4x8x8", "IEBN: 4x4x8x8"]),
    ],
)
def test_the_benchmark_runs(script: str, rows: list[str]):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:PatchUp with gamma=", f"benchmarks/{script}.py", "--tiny"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in rows:
        assert f"| {row}" in done.stdout
