"""docs/evidence: every record was made by code that draws as today's does, and every page says what the records say."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import mixlayers

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

from evidence import Study, check, collect, form_of, main, public, read_options, settings_of, spread  # noqa: E402
from evidence.pages import PLACE, block, filled, forms, is_begun, is_whole, studies  # noqa: E402

RECORDS = sorted((ROOT / "docs" / "evidence").glob("*.json"))
PAGES = sorted((ROOT / "docs" / "evidence").glob("*.md"))
STUDIES = studies()


def read(path: Path) -> tuple[Study, dict[str, Any]]:
    record = json.loads(path.read_text(encoding="utf-8"))
    return STUDIES[record["study"]], record


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name)
def test_page_says_what_the_records_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text, STUDIES) == text, "run: python examples/evidence --write"


def test_every_record_and_every_study_has_one_place_in_the_pages() -> None:
    """A study that nobody has run has one too: the page says that it is ready, and how to run it."""
    places = [found[1] for page in PAGES for found in PLACE.finditer(page.read_text(encoding="utf-8"))]
    assert len(places) == len(set(places))
    assert set(places) == {path.name for path in RECORDS} | {
        record for study in STUDIES.values() for record in forms(study)
    }


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_command_makes_the_record(path: Path) -> None:
    study, record = read(path)
    words = record["command"].split()
    assert words[: len(study.typed)] == study.typed
    options = read_options(study, words[len(study.typed) :])
    assert public(settings_of(study, options)) == record["settings"]
    assert form_of(options) != "quick" and options.record == path.relative_to(ROOT)


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_record_is_whole_or_its_page_says_that_it_is_not(path: Path) -> None:
    study, record = read(path)
    assert is_begun(study, record)
    assert is_whole(study, record) != ("**Unfinished: " in block(study, record))


def test_records_that_lack_a_run_or_have_it_elsewhere_are_not_whole() -> None:
    study, record = read(ROOT / "docs" / "evidence" / "few_labels.json")
    runs = record["runs"]
    assert is_whole(study, record)
    assert not is_whole(study, {**record, "runs": runs[:-1]})
    assert not is_whole(study, {**record, "runs": runs[::-1]})
    assert is_begun(study, {**record, "runs": runs[:3]})
    assert not is_begun(study, {**record, "runs": runs[::-1]})
    assert not is_begun(study, {**record, "runs": [*runs, runs[0]]})
    shorter = block(study, {**record, "runs": runs[:7]})
    assert f"**Unfinished: 7 of {len(runs)} runs so far. The same command goes on.**" in shorter


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_record_is_not_older_than_what_it_measures(path: Path) -> None:
    study, record = read(path)
    assert record["versions"]["mixlayers"] == mixlayers.__version__
    assert record["fingerprint"] == study.fingerprint(), (
        f"plans, masks, first weights or batches are drawn otherwise now: run again {record['command']}"
    )


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_claims_hold(path: Path) -> None:
    study, record = read(path)
    assert study.claims(record)
    if is_whole(study, record):
        check(study.claims(record))


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
    collect(study, cases, "full", path)
    longer = collect(study, {**cases, "seeds": 2}, "full", path)
    assert done == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert [run["value"] for run in longer["runs"]] == [0, 0, 1, 1]
    assert longer["command"].endswith("--full --seeds 2 --record docs/evidence/counting.json")
    with pytest.raises(SystemExit, match="has 2 runs that were not asked for, and would lose them"):
        collect(study, cases, "full", path)
    with pytest.raises(SystemExit, match="has 4 runs that were made with another data: give another file"):
        collect(study, {**cases, "data": "fashion"}, "full", path)
    assert json.loads(path.read_text(encoding="utf-8"))["runs"] == longer["runs"]


def test_runs_that_a_stopped_record_has_further_on_are_kept(tmp_path: Path) -> None:
    """As where a list in the settings has grown at its front."""
    done: list[int] = []

    def counting(*numbers: int) -> dict[str, Any]:
        return {"labels": list(numbers), "seeds": 1}

    study = Study(
        "counting",
        counting(2),
        counting(2),
        lambda settings, seed: [{"labels": n} for n in settings["labels"]],
        lambda job, settings: stops_at(3, job, done),
        lambda record: "",
        lambda record: [],
        lambda record: pytest.fail("nothing is drawn"),
    )
    path = tmp_path / "counting.json"
    collect(study, counting(2, 4), "full", path)
    with pytest.raises(KeyboardInterrupt):
        collect(study, counting(1, 2, 3, 4), "full", path)
    kept = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert [run["labels"] for run in kept] == [1, 2, 4]
    assert done == [2, 4, 1]


def stops_at(number: int, job: dict[str, Any], done: list[int]) -> dict[str, Any]:
    if job["labels"] == number:
        raise KeyboardInterrupt
    done.append(job["labels"])
    return {"value": 1}


def test_spread_is_of_a_sample() -> None:
    assert spread([0.1, 0.3], 1, 100.0) == "20.0 ± 14.1"
    assert spread([0.1], 2) == "0.10"


def test_images_that_are_not_there_are_one_line_that_says_where_people_get_them(tmp_path: Path) -> None:
    for study in ("few_labels", "cifar_methods"):
        with pytest.raises(
            SystemExit, match=r"CIFAR-10 is read from the python version of https.* is not there\."
        ):
            main(STUDIES[study], ["--data", f"cifar10:{tmp_path / 'nowhere'}"])


def test_studies_on_cifar10_need_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(STUDIES["cifar_methods"], [])
    assert "the following arguments are required: --data" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(STUDIES["cifar_methods"], ["--data", "cifar10"])
    assert "--data cifar10:PATH needs the path to CIFAR-10, got 'cifar10'" in capsys.readouterr().err
