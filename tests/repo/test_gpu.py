"""benchmarks/gpu.py runs, on the CPU, and says what it found. Nothing here looks at a time."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from device import bodies, cases, page, stand_in  # noqa: E402
from parts.timing import Row, Spread  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(tmp_path: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """What it returns, prints and writes; from another folder, with nothing on the path."""
    out = tmp_path / "out" / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *options, "--out", str(out)]
    ran = subprocess.run(
        command, cwd=tmp_path, env=BARE, capture_output=True, text=True, timeout=280, check=False
    )
    found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    return ran.returncode, ran.stdout + ran.stderr, found


def test_every_part_runs_on_the_cpu_and_one_page_section_says_it(tmp_path: Path) -> None:
    text = tmp_path / "page.md"
    text.write_text("# A page\n\n<!-- gpu -->\n\nold\n\n<!-- end of gpu -->\n", encoding="utf-8")
    quick = ["mixing", "no_wait", "training", "iebn", "blend", "host", "input", "iebn_speed"]
    status, said, found = run(tmp_path, "--device", "cpu", "--page", str(text), "--parts", *quick)
    assert status == 0, said
    assert list(found["parts"]) == quick and found["machine"]["device"] == "cpu"
    assert {"torch", "numpy"} <= found["versions"].keys() and found["commit"]
    outcomes = {each["outcome"] for part in found["parts"].values() for each in part["found"]}
    assert outcomes == {"holds", "measured", "left out"}
    assert "FAILS" not in said and "values and gradients are the oracle's, bfloat16" in said
    written = text.read_text(encoding="utf-8")
    assert "**Holds**" in written and "| IEBN: training" in written and "\nold\n" not in written


def test_a_part_that_has_no_time_left_is_a_failure_and_leaves_the_others(tmp_path: Path) -> None:
    status, said, found = run(tmp_path, "--device", "cpu", "--minutes", "0.0001", "--parts", "mixing", "iebn")
    assert status == 1 and said.count("FAILS") >= 2
    assert [part["found"][-1]["outcome"] for part in found["parts"].values()] == ["FAILS", "FAILS"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks PyTorch's CPU build for a GPU")
def test_without_a_gpu_it_says_so_once(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, "--device", "cuda:7")
    assert status == 1 and said.count("sees no GPU; --device cpu runs the same") == 1


def test_a_case_that_raises_fails_alone() -> None:
    def refuse() -> None:
        raise cases.LeftOut("no such device")

    row = Row("blend", "one lam", "x 2 copies", Spread(1.5, 1.0, 2.0), {"usual form": Spread(3.0, 3.0, 3.0)})
    found = [
        cases.settle(cases.Case(name, what))
        for name, what in {
            "divides": lambda: 1 / 0, "waits": refuse, "runs": lambda: "two steps", "takes": lambda: [row],
        }.items()
    ]  # fmt: skip
    assert [each.outcome for each in found] == [cases.FAILS, cases.LEFT_OUT, cases.HOLDS, cases.MEASURED]
    assert "ZeroDivisionError" in found[0].detail and found[1].detail == "no such device"
    shown = page.section(
        {
            "date": "2026-11-26", "command": "python benchmarks/gpu.py", "seconds": 3.0, "commit": "abc",
            "machine": {"gpu": "A GPU", "cuda": "13.0", "python": "3.12.1", "cores": 2},
            "versions": {"torch": "2.8"}, "parts": {"all": {"found": [each.to_dict() for each in found]}},
        }
    )  # fmt: skip
    for line in (
        "3 s on A GPU, CUDA 13.0", "**Fails** (1)", "- divides: ZeroDivisionError", "- waits: no such device",
        "- runs: two steps", "| blend: one lam | 1.5 [1, 2] | x 2 copies | usual form 3 |",
    ):  # fmt: skip
        assert line in shown


def test_bodies_run_without_pytest_as_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    stand_in.install()
    theirs = sys.modules["pytest"]

    @theirs.mark.parametrize("first", [1, 2])
    @theirs.mark.parametrize(("second", "third"), [theirs.param(3, 4, id="a"), (5, 6)])
    def body(fw: Any, first: int, second: int, third: int) -> None:
        assert fw(first, second, third) == theirs.approx(float(first))
        with theirs.raises(ZeroDivisionError, match="division"):
            1 / 0  # noqa: B018

    def fails(fw: Any) -> None:
        with theirs.raises(ValueError, match="never"):
            pass

    def asks(fw: Any, tmp_path: Path) -> None:
        raise AssertionError("is not to run")

    called: list[tuple[int, ...]] = []

    class Framework(nullcontext[None]):
        name = "torch"

        def __call__(self, *numbers: int) -> float:
            called.append(numbers)
            return numbers[0] + 1e-9

    fw = Framework()
    module = SimpleNamespace(test_body=body, test_asks=asks)
    monkeypatch.setattr(bodies, "import_module", lambda name: module)
    assert bodies._run("tests.shared.test_it", fw) == "4 bodies; 1 need pytest"
    assert sorted(called) == [(1, 3, 4), (1, 5, 6), (2, 3, 4), (2, 5, 6)]
    module.test_fails = fails
    with pytest.raises(AssertionError, match="1 of 5 bodies failed: test_fails"):
        bodies._run("tests.shared.test_it", fw)


def test_make_takes_a_python_that_has_pytorch(tmp_path: Path) -> None:
    command = [
        "make",
        "gpu",
        "DEVICE=cpu",
        "PARTS=input",
        f"PYTHON={sys.executable}",
        f"GPU_OUT={tmp_path}/gpu.json",
    ]
    ran = subprocess.run(
        command, cwd=ROOT, env=BARE, capture_output=True, text=True, timeout=280, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["parts"].keys() == {"input"}
