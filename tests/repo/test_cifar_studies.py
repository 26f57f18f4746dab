"""The studies on CIFAR-10, each run tiny on made-up images; what they do to labels, images and networks, by hand."""

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

from tests.support.cifar10_files import write_packed

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

from evidence import collect, form_of, jobs_of, public, read_options, settings_of  # noqa: E402
from evidence.cifar import corruption, frozen, training  # noqa: E402
from evidence.cifar.networks import build  # noqa: E402
from evidence.cifar.studies import STUDIES  # noqa: E402
from evidence.compared import comparison, gain  # noqa: E402
from evidence.pages import forms, listing, waiting  # noqa: E402

from mixlayers import ManifoldMixup  # noqa: E402
from mixlayers.cli.methods import METHODS  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"cifar10:{write_packed(tmp_path_factory.mktemp('cifar10') / 'packed.npz')}"


@pytest.fixture(autouse=True)
def as_before() -> Any:
    """Studies that use other frameworks set their global generators, and the one of NumPy."""
    numpy = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(numpy)  # noqa: NPY002
    pyplot.close("all")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_and_never_repeats_a_run(path: str, tmp_path: Path, name: str) -> None:
    asked, file = STUDIES[name], tmp_path / "record.json"
    study = asked.study()
    options = read_options(study, ["--data", path, "--record", str(file)])
    settings = settings_of(study, options)
    record = collect(study, settings, form_of(options), file)
    assert record["settings"]["data"] == "cifar10", "where somebody keeps his images is not recorded"
    assert "recompressed" in record["origin"]
    assert json.loads(file.read_text(encoding="utf-8")) == record
    assert len(record["runs"]) == len(jobs_of(study, settings)) > 1
    for run in record["runs"]:
        assert 0.0 <= run["accuracy"] <= 1.0 and 0.01 <= run["temperature"] <= 100.0
        assert np.isfinite([run["nll"], run["scaled_nll"], run["scaled_ece"]]).all()
    last = len(asked.axes) - 1
    values = record["settings"][asked.axes[last]]
    tables = study.tables(record)
    for value in values:
        assert f"| {asked.title(asked.axes[last], value)} |" in tables
    cells = [set(line.split("|")) for line in tables.splitlines()]
    narrow = asked.brief(record).splitlines()[4:]
    assert narrow and all(any(set(line.split("|")) <= row for row in cells) for line in narrow)
    assert tables.count("1 of 1") + tables.count("0 of 1") >= 2 * (len(values) - 1)
    assert all(holds for _, holds in study.claims(record))
    values = len(settings[asked.along]) if asked.along else 1
    assert len(study.draw(record).axes) == 2 * len(asked.groups(settings)) / values

    finished = replace(study, work=lambda job, settings: pytest.fail(f"it made {job} again"))
    assert collect(finished, settings, form_of(options), file)["runs"] == record["runs"]


@pytest.mark.parametrize("name", STUDIES)
def test_forms_are_declared_as_they_are_run(name: str) -> None:
    study, asked = STUDIES[name].study(), STUDIES[name]
    for record, form in forms(study).items():
        text = waiting(study, form)
        typed = text.split("\n\n")[0].replace("\\\n", " ")
        options = read_options(study, typed.split()[3:])
        settings = settings_of(study, options)
        assert public(settings) == (study.full if form == "full" else study.gpu)
        assert options.record == Path("docs/evidence", record) and form_of(options) == form
        jobs = jobs_of(study, settings)
        assert f"{len(jobs)} runs" in text
        assert settings["seeds"] >= 3
        assert asked.base == settings[asked.axes[-1]][0], "gains are over the first row"
        assert len({json.dumps(job, sort_keys=True) for job in jobs}) == len(jobs)


def test_listing_names_every_study_and_its_question() -> None:
    text = listing()
    for name, asked in STUDIES.items():
        assert f"{name}: {asked.question}" in text


def test_a_network_learns_the_colours_and_the_same_again(path: str) -> None:
    asked = {
        "data": path, "labels": 5, "seed": 0, "validation": 30, "tested": 40, "network": "resnet", "width": 8,
        "stages": 2, "batch": 10, "epochs": 12, "epochs_at": 5, "device": "cpu", "method": "manifold",
    }  # fmt: skip
    scores = training.work({}, asked)
    assert scores["accuracy"] > 0.5
    assert scores == training.work({}, asked), "equal seeds give equal numbers"


@pytest.mark.parametrize(("asked", "dtype"), [({}, torch.float32), ({"bfloat16": True}, torch.bfloat16)])
def test_a_processor_trains_in_bfloat16_where_asked(
    path: str, asked: dict[str, Any], dtype: torch.dtype
) -> None:
    asked = {
        **asked, "data": path, "labels": 2, "seed": 0, "validation": 20, "tested": 20, "network": "resnet",
        "batch": 10, "epochs": 1, "epochs_at": 2, "device": "cpu", "method": "manifold",
    }  # fmt: skip
    data, rows = training.rows_of(asked)
    network = build("resnet", 8, 2, seed=0)
    seen: list[torch.dtype] = []
    network.layer1.register_forward_hook(lambda layer, args, output: seen.append(output.dtype))
    training.trained(network, asked, data, rows.train)
    assert seen[-1] == dtype, "the pass that trained; the audit's, before it, are in float32"


def test_more_labels_are_trained_with_more_steps_and_fewer_epochs() -> None:
    asked = {"epochs": 120, "epochs_at": 100}
    assert [training.epochs_of({**asked, "labels": n}) for n in (50, 100, 400, 1000)] == [170, 120, 60, 38]


def test_wrong_labels_are_as_many_as_asked_and_all_wrong() -> None:
    labels = np.arange(1000) % 10
    found = training.noisy(labels, 0.4, seed=1)
    changed = found != labels
    assert changed.sum() == 400
    steps = (found - labels)[changed] % 10
    assert np.bincount(steps, minlength=10)[1:].min() > 25, "every other class"
    assert found.min() == 0 and found.max() == 9
    assert (training.noisy(labels, 0.0, seed=1) == labels).all()


@pytest.mark.parametrize(
    ("asked", "method", "layers"),
    [
        ({"at": "none"}, None, ()),
        ({"at": "input, layer1 (alpha 0.2)"}, ManifoldMixup(0.2), ("input", "layer1")),
        ({"method": "cutmix"}, METHODS["cutmix"].method, "input"),
    ],
)
def test_what_is_mixed_where(asked: dict[str, Any], method: Any, layers: Any) -> None:
    assert training.mixing_of(asked) == (method, layers)


def test_corruptions_by_hand() -> None:
    images = np.random.default_rng(0).integers(60, 190, (20, 3, 32, 32), dtype=np.uint8)
    clean = images / 255.0
    noise = corruption.corrupted(images, 0.08, seed=0) - clean
    assert noise.std() == pytest.approx(0.08, rel=0.02) and abs(noise.mean()) < 0.001
    weak = corruption.corrupted(images, corruption.KINDS["contrast x0.4"], seed=0)
    assert weak.std() == pytest.approx(0.4 * clean.std(), rel=0.1)
    grey = np.tensordot([0.299, 0.587, 0.114], clean, axes=(0, 1))  # of which the mean stays
    assert np.tensordot([0.299, 0.587, 0.114], weak, axes=(0, 1)).mean() == pytest.approx(
        grey.mean(), abs=0.005
    )
    once, twice = (
        corruption.corrupted(images, corruption.KINDS[f"blur x{n}"], 0)[:, :, 8:-8, 8:-8] for n in (2, 4)
    )
    assert clean.std() > 1.5 * once.std() > 1.5 * twice.std()
    assert set(STUDIES["methods"].also) == set(corruption.KINDS)


def test_a_frozen_trunk_keeps_its_weights_and_statistics() -> None:
    network = build("resnet", 4, 3, seed=0, classes=5)
    for name in frozen.TRUNK:
        setattr(network, name, frozen.Still(getattr(network, name)))
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], 0.1)
    network.train()(torch.rand(8, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    changed = {
        name.partition(".")[0] for name, value in network.state_dict().items() if (value != kept[name]).any()
    }
    assert changed == {"layer3", "norm", "head"}


def test_the_control_starts_as_iebn_does() -> None:
    import paddle

    study = import_module("evidence.cifar.paddle_iebn")
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32))
    outputs = [study.NORMS[name](3)(x).numpy() for name in ("IEBN", "BatchNorm from 0.269")]
    np.testing.assert_allclose(*outputs, atol=1e-6)


def run(seed: int, accuracy: float, nll: float) -> dict[str, Any]:
    return {
        "seed": seed, "accuracy": accuracy, "nll": nll, "ece": 0.1, "temperature": 0.5, "scaled_nll": nll / 2,
        "scaled_ece": 0.02,
    }  # fmt: skip


def test_comparison_by_hand() -> None:
    rows = {
        "plain": [run(0, 0.5, 1.0), run(1, 0.6, 1.2)],
        "Mixup": [run(0, 0.56, 0.8), run(1, 0.62, 1.4)],
        "CutMix": [],
    }
    lines = comparison("title", "method", rows).split("\n")
    # gains of 6 and 2 points: 4 ± 2; NLL at T -0.1 and +0.1: 0 ± 0.1
    assert lines[-1] == (
        "| Mixup | 59.0 ± 4.2 | +4.0 ± 2.0, 2 of 2 | 1.100 ± 0.424 | 0.550 ± 0.212 | +0.000 ± 0.100, 1 of 2 "
        "| 10.0 ± 0.0 | 2.0 ± 0.0 | 0.50 ± 0.00 |"
    )
    assert len(lines) == 6, "a row without a run is left out"
    assert gain(rows["Mixup"], [run(2, 0.5, 1.0)], "accuracy") is None
    alone = gain(rows["Mixup"], rows["plain"][:1], "accuracy")
    assert alone is not None and (alone.rows, alone.error) == (1, None)
