"""The benchmarks run, and write what docs/results.md is made from. Nothing here looks at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "backends")))}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("bench") / "results.json"
    environment = {
        **ENVIRONMENT,
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1073741824",  # else the blend runs in a second process too
    }
    command = [sys.executable, "benchmarks/mixing.py", "--tiny", "--threads", "1", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=240)
    return json.loads(out.read_text(encoding="utf-8"))


def test_says_what_it_ran_on(results: dict[str, Any]) -> None:
    assert results.keys() >= {
        "versions", "machine", "cores", "threads", "glibc_tunables", "load", "date", "seconds", "command", "rows",
    }  # fmt: skip
    assert results["versions"].keys() == {"mixlayers", "torch", "numpy"} and results["threads"] == 1


def test_every_promise_has_its_row(results: dict[str, list[dict[str, object]]]) -> None:
    limited = [row["part"] for row in results["rows"] if row["limit"] is not None]
    assert limited == ["blend"] * 2 + ["mask"] + ["step"] * 3 + ["idle hooks"] * 2 + [
        "audit",
        "compiled step",
    ]
    for row in results["rows"]:
        assert row.keys() == {"part", "what", "unit", "ours", "rivals", "limit", "malloc", "met"}
        assert row["ours"].keys() == {"median", "low", "high"}
        assert row["met"] is None or row["limit"] is not None


def test_rivals_are_shown(results: dict[str, list[dict[str, object]]]) -> None:
    for row in results["rows"]:
        assert bool(row["rivals"]) == (row["part"] in ("blend", "step"))


def test_two_processes_take_turns_and_one_writes(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/distributed.py", "--tiny", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=240)
    results = json.loads(out.read_text(encoding="utf-8"))
    assert [row["part"] for row in results["rows"]] == ["DDP step"] * 3 + ["DDP own part"] * 3
    assert {row["limit"] for row in results["rows"]} == {1.03} and results["threads"] == 1


def test_rbn_is_timed_beside_its_rivals(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/rbn.py", "--tiny", "--out", str(out), "--parts"]
    subprocess.run([*command, "torch", "chainer"], cwd=ROOT, env=ENVIRONMENT, check=True, timeout=240)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["part"] for row in rows] == ["torch", "chainer"]
    assert all(row["rivals"].keys() == {"IEBN", "operations"} for row in rows)
