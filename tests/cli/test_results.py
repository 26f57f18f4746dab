"""The record: what is kept on disk, and when two methods are called equal."""

import json
from pathlib import Path
from typing import Any

import pytest

from mixlayers.cli import results as record
from mixlayers.cli.results import Results
from mixlayers.cli.stop import Stop
from mixlayers.cli.train import Run


def run(method: str, seed: int, accuracy: float, nll: float = 1.0) -> Run:
    scaled = {"temperature": 0.5, "scaled_nll": nll / 2, "scaled_ece": 0.05}
    return Run(method, seed, accuracy, nll, ece=0.1, **scaled, fgsm_accuracy=0.5, seconds=1.0, steps=4)


def results(*runs: Run, planned: int | None = None) -> Results:
    config: dict[str, Any] = {"methods": ["plain", "mixup", "cutmix"], "seeds": [0, 1]}
    return Results(config=config, data={}, planned=len(runs) if planned is None else planned, runs=list(runs))


def test_summary_is_mean_and_standard_deviation_of_a_sample() -> None:
    moments = record.summary([run("plain", 0, 0.5), run("plain", 1, 0.7)])["accuracy"]
    assert moments["mean"] == pytest.approx(0.6)
    assert moments["sd"] == pytest.approx(0.1 * 2**0.5)
    assert record.summary([run("plain", 0, 0.5)])["accuracy"]["sd"] is None


def test_best_knows_which_way_each_measure_goes() -> None:
    both = results(run("plain", 0, 0.5, nll=0.3), run("mixup", 0, 0.7, nll=0.9))
    assert record.best(both, "accuracy") == "mixup"
    assert record.best(both, "nll") == "plain"


@pytest.mark.parametrize(("gap", "ties"), [(0.13, {"plain"}), (0.15, set())])
def test_a_tie_is_a_gap_within_the_larger_standard_deviation(gap: float, ties: set[str]) -> None:
    # the standard deviation of 0.5 and 0.7 is 0.141, that of the others 0
    both = results(
        run("plain", 0, 0.5), run("plain", 1, 0.7), run("mixup", 0, 0.6 + gap), run("mixup", 1, 0.6 + gap)
    )
    assert record.ties_with_best(both, "accuracy") == ties


def test_beside_plain_pairs_the_seeds_that_both_have(tmp_path: Path) -> None:
    some = results(
        run("mixup", 2, 0.9), run("plain", 1, 0.5, nll=0.4), run("plain", 0, 0.7, nll=0.8),
        run("mixup", 0, 0.8, nll=0.6), run("mixup", 1, 0.5, nll=0.6),
    )  # fmt: skip
    (gaps,) = record.beside_plain(some).values()
    assert (gaps["accuracy"].mean, gaps["accuracy"].wins, gaps["accuracy"].rows) == (
        pytest.approx(0.05),
        1,
        2,
    )
    assert gaps["accuracy"].error == pytest.approx(0.05)  # of 0.1 and 0
    assert (gaps["scaled_nll"].mean, gaps["scaled_nll"].wins) == (pytest.approx(0.0), 1)
    some.save(tmp_path)
    saved = json.loads((tmp_path / "results.json").read_text())["beside_plain"]
    assert list(saved) == ["mixup"]
    five = pytest.approx(0.05)
    assert saved["mixup"]["accuracy"] == {"mean": five, "error": five, "wins": 1, "rows": 2}


def test_without_plain_nothing_is_beside_it() -> None:
    assert record.beside_plain(results(run("mixup", 0, 0.5), run("cutmix", 0, 0.5))) == {}


def test_one_seed_tells_nothing_about_ties() -> None:
    assert record.ties_with_best(results(run("plain", 0, 0.5), run("mixup", 0, 0.5)), "accuracy") == set()


def test_save_writes_strict_json_that_says_whether_it_is_whole(tmp_path: Path) -> None:
    results(run("plain", 0, 0.5), planned=2).save(tmp_path)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["finished"] is False
    assert saved["planned_runs"] == 2
    assert saved["runs"][0]["accuracy"] == 0.5
    assert {"python", "numpy", "torch", "mixlayers"} <= saved["versions"].keys()
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_an_earlier_record_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("hours of work")
    record.prepare_folder(tmp_path)
    assert (tmp_path / "results.previous.json").read_text() == "hours of work"
    assert not (tmp_path / "results.json").exists()


def test_the_output_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    record.prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_an_output_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match=r"cannot be written to .*--out"):
        record.prepare_folder(tmp_path / "file" / "out")


def test_results_that_cannot_be_saved_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="cannot be written to"):
        results(run("plain", 0, 0.5)).save(tmp_path / "gone")
