"""The documentation's site: it builds without a warning, offline, and leaves no public name undocumented."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = [
    "mixlayers",
    *(f"mixlayers.{face}" for face in ("torch", "paddle", "chainer", "augment", "view", "testing")),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert pages
    for page in pages:
        html = (site / page).read_text(encoding="utf-8")
        for tag in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http'):
            assert tag not in html, f"{page} loads something from the network"


@pytest.mark.parametrize("name", ["wrap", "Mixer", "IEBN2d", "ManifoldMixup", "check"])
def test_reference_has_the_names(site: Path, name: str) -> None:
    assert f'class="sig-name descname"><span class="pre">{name}</span>' in (site / "api.html").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented(module: str) -> None:
    face = import_module(module)
    names = getattr(face, "__all__", None) or ["check", "Report", "Property"]
    for name in names:
        thing = getattr(face, name)
        assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
        if inspect.isclass(thing):
            for method, member in vars(thing).items():
                if not method.startswith("_") and (callable(member) or isinstance(member, property)):
                    assert inspect.getdoc(getattr(thing, method)), (
                        f"{module}.{name}.{method} has no docstring"
                    )


def test_every_example_is_shown() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in page]
    assert not missing, f"docs/examples.md does not show {missing}"
