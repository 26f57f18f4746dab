"""The release: a wheel built from the sdist holds every package, and works away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "mixlayers", *sorted((ROOT / "backends").glob("mixlayers_*"))]


def run(arguments: Sequence[str | Path], cwd: Path, path: str = "") -> str:
    """Run this Python, safe from modules in the working folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from the sdist, as a release is."""
    dist = tmp_path_factory.mktemp("dist")
    run(["-m", "build", "--no-isolation", "--outdir", dist, ROOT], cwd=dist)
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("site")
    pip = ["-m", "pip", "--disable-pip-version-check", "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", "--target", target, wheel], cwd=target)
    return target


def test_wheel_holds_every_file_of_every_package(wheel: Path) -> None:
    """hatchling builds happily when a path in `packages` is misspelt, so the tree says what must be there."""
    expected = set()
    for package in PACKAGES:
        assert (package / "py.typed").exists()
        files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        expected |= {path.relative_to(package.parent).as_posix() for path in files}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == expected


def test_wheel_describes_itself(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"mixlayers-{wheel.name.split('-')[1]}.dist-info"
    metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert metadata["Name"] == "mixlayers"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    faces = {"torch", "paddle", "chainer", "jax", "keras", "tensorflow", "view", "augment"}
    assert set(metadata.get_all("Provides-Extra", [])) == faces | {"demo", "test", "docs"}
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert required == ["numpy>=1.24"]
    assert "the mixlayers authors" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "mixlayers = mixlayers.cli:main" in archive.read(f"{info}/entry_points.txt").decode()


def test_installed_wheel_is_found_with_its_version(site: Path, tmp_path: Path) -> None:
    """The environment's own path leads to the checkout; the wheel must come before it."""
    code = "import mixlayers; print(mixlayers.__file__, mixlayers.__version__, sep='\\n')"
    file, version = run(["-c", code], cwd=tmp_path, path=str(site)).splitlines()
    assert Path(file) == site / "mixlayers" / "__init__.py"
    assert (site / f"mixlayers-{version}.dist-info").is_dir()


def test_installed_wheel_passes_the_core_tests(site: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "core", tmp_path / "core")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    quick = "not uniform and not law"  # what takes thousands of draws was counted in the checkout
    unhurried = (
        "--hypothesis-profile=ci"  # hypothesis' own, of no deadline, for tests/conftest.py is not there
    )
    printed = run(["-m", "pytest", "-q", "-x", unhurried, "-k", quick, "core"], cwd=tmp_path, path=str(site))
    assert " passed" in printed
