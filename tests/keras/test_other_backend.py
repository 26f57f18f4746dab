"""The same bodies where Keras runs on PyTorch, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keras.keras_nets import ON_JAX

HERE = Path(__file__).parent


@pytest.mark.skipif(not ON_JAX, reason="this is the other backend")
def test_the_bodies_hold_on_pytorch():
    files = [str(path) for path in sorted(HERE.glob("test_*.py")) if path.name != Path(__file__).name]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            *files,
        ],
        cwd=HERE.parents[1],
        env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed" in run.stdout
