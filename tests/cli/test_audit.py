"""`mixlayers audit`: finding a model by its name, and saying clearly why not."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mixlayers.cli.app import app
from mixlayers.cli.audit import declared_shape, find_model, parse_shape
from mixlayers.cli.stop import Stop


def audit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


@pytest.mark.parametrize(
    "name", ["mixlayers.cli.torch_side.SmallResNet", "mixlayers.cli.torch_side:SmallResNet"]
)
def test_a_model_of_ones_own_by_its_path(name: str) -> None:
    result = audit(name, "--shape", "1,28,28")
    assert result.exit_code == 0, result.output
    assert "(2, 1, 28, 28)" in result.output
    assert [line.split()[-1] for line in result.output.splitlines() if line.startswith("layer1.conv1 ")] != [
        "yes"
    ]
    assert "true mixing points" in result.output


def test_a_model_of_pytorchcv_by_its_name_and_its_own_input_size() -> None:
    result = audit("resnet20_cifar10")
    assert result.exit_code == 0, result.output
    assert "(2, 3, 32, 32)" in result.output
    assert "features.stage1" in result.output


def test_a_module_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_net.py").write_text(
        "import torch\nnet = torch.nn.Sequential(torch.nn.Linear(3, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"] + [p for p in __import__("sys").path if p])
    result = audit("my_own_net:net", "--shape", "3")
    assert result.exit_code == 0, result.output


def test_an_unknown_name_says_what_was_tried() -> None:
    result = audit("resnet20_cifar11")
    assert result.exit_code == 2
    line = result.stderr.strip()
    assert "\n" not in line
    for word in ("resnet20_cifar11", "torchvision", "timm", "pytorchcv", "package.module:callable"):
        assert word in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mixlayers.cli.torch_side:NoSuchNet", "mixlayers.cli.torch_side has no NoSuchNet"),
        ("no_such_package.net", "no module no_such_package"),
        ("math:pi", "gives a float, not a torch module"),
        ("mixlayers.cli.torch_side:Block", "cannot be built: TypeError"),
    ],
)
def test_a_path_that_leads_nowhere(name: str, words: str) -> None:
    result = audit(name)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_input_that_does_not_fit_the_model() -> None:
    result = audit("mixlayers.cli.torch_side:SmallResNet")
    assert result.exit_code == 1
    assert "(2, 3, 224, 224)" in result.stderr
    assert "--shape" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["", "3,x", "3,-1", "3,0,2", "a lot"])
def test_a_shape_that_is_none(text: str) -> None:
    with pytest.raises(Stop, match=r"--shape takes whole numbers"):
        parse_shape(text)


def test_shapes_are_read_with_commas_or_crosses() -> None:
    assert parse_shape("3,224,224") == parse_shape("3x224x224") == (3, 224, 224)


def test_models_may_declare_their_input() -> None:
    class Timm:
        default_cfg = {"input_size": (3, 240, 240)}  # noqa: RUF012

    class Pytorchcv:
        in_size, in_channels = (32, 32), 1

    assert declared_shape(Timm()) == (3, 240, 240)
    assert declared_shape(Pytorchcv()) == (1, 32, 32)
    assert declared_shape(object()) is None


def test_a_module_that_fails_on_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_on_import.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stop, match="fails_on_import cannot be imported: ZeroDivisionError"):
        find_model("fails_on_import:net")
