"""The race runs without any peer, and docs/peers.md says what its JSON files say. Nothing here looks at a time."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import conformance  # noqa: E402
import race  # noqa: E402
from parts.page import between, put  # noqa: E402
from parts.timing import Row, Spread  # noqa: E402
from peers import own  # noqa: E402
from peers.adapters import Peer  # noqa: E402
from peers.listed import PEERS  # noqa: E402
from peers.picture import draw  # noqa: E402
from peers.work import formula  # noqa: E402

from mixlayers.testing import check  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))
PAGE = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
FOUND = json.loads((ROOT / "docs" / "peers.json").read_text(encoding="utf-8"))["peers"]
RACE = json.loads((ROOT / "docs" / "race.json").read_text(encoding="utf-8"))


def test_the_tables_of_the_page_are_those_of_the_files():
    assert between(PAGE, "peers") == conformance.table(FOUND)
    assert between(PAGE, "race") == race.table(RACE)


def test_every_part_says_what_it_ran_on():
    assert list(RACE) == list(race.PARTS)
    for part in RACE.values():
        assert (
            part["versions"].keys() >= {"mixlayers", "torch", "numpy"} and part["command"] and part["commit"]
        )


def test_every_peer_has_a_row_and_every_failure_its_meaning():
    assert [one["peer"] for one in FOUND] == [peer.name for peer in PEERS]
    for one, peer in zip(FOUND, PEERS, strict=True):
        assert one["version"] and peer.means.keys() >= one["failed"].keys()


def test_ours_breaks_no_rule():
    ours = [one for one in FOUND if one["peer"].startswith("mixlayers.")]
    assert len(ours) == 18 and not any(one["failed"] for one in ours)


def test_a_peer_that_is_not_installed_is_left_out():
    def make(classes: int) -> Any:
        raise ImportError

    assert conformance.looked_at(Peer("nobody", "nobody", "", "Mixup", "batch", make)) is None
    with pytest.raises(ImportError, match="PADDLECLAS"):
        own.batch_operator("MixupOperator", 10)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("race")
    page = folder / "page.md"
    page.write_text("before\n\n<!-- race -->\n\nold\n\n<!-- end of race -->\n\nafter\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "backends")))}
    command = [sys.executable, "benchmarks/race.py", "--tiny", "--threads", "1", "--page", str(page)]
    command += ["--out", str(folder / "race.json"), "--picture", str(folder / "race.png")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=240)
    parts = json.loads((folder / "race.json").read_text(encoding="utf-8"))
    return SimpleNamespace(parts=parts, page=page.read_text(encoding="utf-8"), picture=folder / "race.png")


def test_the_race_runs_with_ours_and_the_formula_alone(results: SimpleNamespace):
    assert list(results.parts) == list(race.PARTS)
    operations = [row for row in results.parts["operation"]["rows"] if row["part"] == "operation"]
    assert [row["what"].partition(", 4x")[0] for row in operations] == [
        "Mixup, lam per batch", "Mixup, lam per sample", "CutMix, lam per batch", "CutMix, lam per sample",
    ]  # fmt: skip
    assert all("formula" in row["rivals"] for row in operations)
    assert results.parts["step"]["rows"][0]["rivals"].keys() >= {"rewritten model"}


def test_the_race_writes_its_page_and_draws(results: SimpleNamespace):
    assert (
        results.page
        == f"before\n\n<!-- race -->\n\n{race.table(results.parts)}\n\n<!-- end of race -->\n\nafter\n"
    )
    assert results.picture.read_bytes().startswith(b"\x89PNG")


def test_the_formulas_are_right():
    for op in ("Mixup", "CutMix"):
        for lam_per in ("batch", "sample"):
            report = check(formula(op, lam_per, 10), array=own.tensors("torch"))
            assert report.ok, report


def spread(median: float) -> Spread:
    return Spread(median, median * 0.9, median * 1.1)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (Row("operation", "", "ms; rivals: x ours", spread(7), {"a": spread(0.5), "b": spread(1)}),
         "**slower than a**; level with b"),
        (Row("operation", "", "ms; rivals: x ours", spread(7), {"a": spread(2.0)}), "fastest"),
        (Row("memory", "", "batches", spread(2), {"a": spread(1.0)}), "**more than a**"),
        (Row("memory", "", "batches", spread(1), {"a": spread(2.0)}), "less than all"),
        (Row("step", "", "x the step", spread(1.0), {"a": spread(1.1)}), "level with a"),
        (Row("loader", "", "x", spread(1.2), {}, 1.05), "**missed** (at most 1.05)"),
        (Row("layers", "", "us", spread(1.2)), ""),
    ],
)  # fmt: skip
def test_the_verdict_says_where_ours_loses(row: Row, says: str):
    assert race.verdict(row) == says


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("old\n\n<!-- race -->\n\nold\n\n<!-- end of race -->\n\nold\n", encoding="utf-8")
    put(page, "race", "new")
    assert re.sub(r"\s+", " ", page.read_text()) == "old <!-- race --> new <!-- end of race --> old "
    draw({}, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").exists()
