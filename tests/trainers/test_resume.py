"""Killed at any step and resumed, a training ends with the parameters of one that nobody killed, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainers import resume_scene
from tests.trainers.resume_scene import EPOCH, EPOCHS, EVERY, LOOPS

ROOT = Path(__file__).parents[2]
STEPS = random.Random(20261122).sample(range(EVERY, EPOCHS * EPOCH), len(LOOPS))

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(LeafSpec|num_workers|many workers|training batches|not empty).*"
)


def run_until_killed(loop: str, folder: Path, step: int) -> None:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "backends", Path(__file__).parent)))
    child = subprocess.run(
        [sys.executable, resume_scene.__file__, loop, str(folder), str(step)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.parametrize(("loop", "step"), [*zip(LOOPS, STEPS, strict=True)])
def test_same_parameters_bit_for_bit(loop: str, step: int, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    run_until_killed(loop, broken, step)
    assert any(broken.iterdir())
    try:
        resumed, expected = LOOPS[loop](broken, None).state_dict(), LOOPS[loop](whole, None).state_dict()
    finally:
        torch.set_num_threads(threads)
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())
