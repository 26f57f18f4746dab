"""The benchmark runs, and its promises have their rows. Nothing here looks at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_has_its_row(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-W", "ignore", "benchmarks/iebn_paddle.py", "--tiny", "--out", str(out)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "backends")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=200)
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["versions"]["paddlepaddle"] and results["threads"] == 1
    rows = results["rows"]
    assert [row["part"] for row in rows] == ["train"] + ["step"] * 5
    assert [row["limit"] for row in rows] == [None, None] + [1.05] * 4
    assert rows[0]["rivals"].keys() == {"formula", "article"}
