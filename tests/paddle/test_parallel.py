"""DataParallel over gloo: equal weights, and a plan of each process's own."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_two_processes_keep_equal_weights_and_draw_their_own_plans(tmp_path):
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2",
         "--backend", "gloo", "--log_dir", str(tmp_path / "log"), str(HERE / "data_parallel.py"), str(tmp_path)],
        check=True, timeout=100, capture_output=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (first, *lams), (second, *other) = ((tmp_path / rank).read_text().split() for rank in "01")
    assert first == second and len(lams) == 3 and not set(lams) & set(other)
