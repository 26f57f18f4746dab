"""docs/evidence: every record is whole, made by code that draws as today's does, and says what its page says."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import mixlayers

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

from evidence import Study, check, collect, read_options, settings_of, spread  # noqa: E402
from evidence.networks import fingerprint  # noqa: E402
from evidence.pages import block, is_whole, studies  # noqa: E402

RECORDS = sorted((ROOT / "docs" / "evidence").glob("*.json"))
PAGES = sorted((ROOT / "docs" / "evidence").glob("*.md"))
STUDIES = studies()


def read(path: Path) -> tuple[Study, dict[str, Any]]:
    record = json.loads(path.read_text(encoding="utf-8"))
    return STUDIES[record["study"]], record


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_page_says_what_the_record_says(path: Path) -> None:
    study, record = read(path)
    page = (path.parent / f"{study.name}.md").read_text(encoding="utf-8")
    assert f"<!-- {path.name} -->\n\n{block(study, record)}\n<!-- end -->" in page, (
        "run: python examples/evidence --write"
    )


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_command_makes_the_record(path: Path) -> None:
    study, record = read(path)
    words = record["command"].split()
    assert words[:2] == ["python", f"examples/plot_{study.name}.py"]
    options = read_options(study, words[2:])
    assert settings_of(study, options) == record["settings"]
    assert options.full and options.record == path.relative_to(ROOT)


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_record_is_whole(path: Path) -> None:
    study, record = read(path)
    assert is_whole(study, record)
    assert not is_whole(study, {**record, "runs": record["runs"][:-1]})
    assert not is_whole(study, {**record, "runs": record["runs"][::-1]})


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_record_is_not_older_than_what_it_measures(path: Path) -> None:
    _, record = read(path)
    assert record["versions"]["mixlayers"] == mixlayers.__version__
    assert record["fingerprint"] == fingerprint(), (
        f"plans, masks, first weights or batches are drawn otherwise now: run again {record['command']}"
    )


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_claims_hold(path: Path) -> None:
    study, record = read(path)
    assert study.claims(record)
    check(study.claims(record))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page_has_no_place_without_a_record(page: Path) -> None:
    marks = re.findall(r"^<!-- (\S+\.json) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {path.name for path in RECORDS} >= set(marks)


def test_claim_that_fails_ends_with_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"No longer true: Water is dry\."):
        check([("Water is wet.", True), ("Water is dry.", False)])
    assert capsys.readouterr().out == "holds: Water is wet.\nFAILS: Water is dry.\n"


def test_spirals_that_show_nothing_fail() -> None:
    study, record = read(ROOT / "docs" / "evidence" / "spirals.json")
    same = [{**run, **dict.fromkeys(("test", "sure", "within"), 0.5)} for run in record["runs"]]
    assert not any(holds for _, holds in study.claims({**record, "runs": same}))


def test_recorded_run_comes_out_again() -> None:
    study, record = read(ROOT / "docs" / "evidence" / "two_losses.json")
    run = record["runs"][0]
    again = study.work({key: run[key] for key in ("mode", "loss", "seed")}, record["settings"])
    assert again["second"] == pytest.approx(run["second"], rel=1e-9)
    assert again["changed"] == run["changed"]


def test_stopped_record_goes_on(tmp_path: Path) -> None:
    done = []

    def work(job: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        done.append((job["seed"], job["case"]))
        return {"value": job["seed"]}

    cases: dict[str, Any] = {"data": "mnist5k", "seeds": 1}
    study = Study(
        "counting",
        cases,
        cases,
        lambda settings, seed: [{"case": "a"}, {"case": "b"}],
        work,
        lambda record: "",
        lambda record: [],
        lambda record: pytest.fail("nothing is drawn"),
    )
    path = tmp_path / "counting.json"
    collect(study, cases, True, path)
    longer = collect(study, {**cases, "seeds": 2}, True, path)
    assert done == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert [run["value"] for run in longer["runs"]] == [0, 0, 1, 1]
    assert longer["command"].endswith("--full --seeds 2 --record docs/evidence/counting.json")


def test_spread_is_of_a_sample() -> None:
    assert spread([0.1, 0.3], 1, 100.0) == "20.0 ± 14.1"
    assert spread([0.1], 2) == "0.10"
