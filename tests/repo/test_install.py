"""What is said where something is not installed; what the README's install lines are."""

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from tests.install import try_install

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FACES = {"torch": "torch", "paddle": "paddle", "chainer": "chainer", "view": "matplotlib", "augment": "PIL"}


@pytest.mark.parametrize("face", FACES)
def test_a_face_without_its_framework_says_the_way_out(face):
    """In one line, with what an index has."""
    missing = FACES[face]
    code = f"import sys; sys.modules[{missing!r}] = None; import mixlayers.{face}"
    if face == "chainer":  # which is tried again after an import that failed
        code = (
            "import sys\nclass Missing:\n    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'chainer': raise ModuleNotFoundError(name, name=name)\n"
            "sys.meta_path.insert(0, Missing())\nimport mixlayers.chainer"
        )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: mixlayers.{face} needs"), run.stderr
    assert "which is not installed: pip install" in last and "mixlayers[" not in last


def test_no_hint_names_a_package_that_no_index_has():
    for path in [*ROOT.glob("mixlayers/**/*.py"), *ROOT.glob("backends/**/*.py"), ROOT / "README.md"]:
        assert "install 'mixlayers" not in path.read_text(), path
    for path in ROOT.glob("docs/*.md"):
        assert "install 'mixlayers" not in path.read_text(), path


def test_hints_have_the_bounds_of_the_extras():
    extras = PROJECT["optional-dependencies"]
    for name, extra in (
        ("torch", "torch"),
        ("paddle", "paddle"),
        ("matplotlib", "view"),
        ("pillow", "augment"),
    ):
        assert extras[extra][0] in (ROOT / f"backends/mixlayers_{name}/_needs.py").read_text()


def test_the_readmes_lines_bring_what_they_need():
    first, second = try_install.lines("chainer")
    build = "hatchling>=1.27"
    assert build in first and "--no-build-isolation" in second, "our own build backend must be there too"
    assert [build] == tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert any(line.startswith("pytorchcv") for line in PROJECT["optional-dependencies"]["demo"])
    assert set(try_install.CHECKS) == {
        *("core", "torch", "paddle", "chainer", "jax", "keras,jax", "view", "augment", "torch,demo"),
    }
