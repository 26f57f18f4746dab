"""The house rules: what an import loads, what a face shows, what must be installed, how long a file is."""

import ast
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from tests.conftest import FIRST

ROOT = Path(__file__).parents[2]
FACES = {
    "mixlayers_torch": "torch",
    "mixlayers_paddle": "paddle",
    "mixlayers_chainer": "chainer",
    "mixlayers_matplotlib": "view",
    "mixlayers_pillow": "augment",
    "mixlayers_jax": "jax",
    "mixlayers_jax.nnx": "nnx",
    "mixlayers_jax.linen": "linen",
    "mixlayers_jax.equinox": "equinox",
    "mixlayers_keras": "keras",
}
BACKENDS = sorted(
    {path.name for path in (ROOT / "backends").glob("mixlayers_*")} - {"mixlayers_native"} | {*FACES}
)  # the native one has no face: it is for the others
CORE = [
    path
    for path in sorted((ROOT / "mixlayers").rglob("*.py"))
    if path.is_relative_to(ROOT / "mixlayers" / "_core")
    or (path.parent.name == "mixlayers" and path.stem not in {*FACES.values(), "__main__"})
]

IMPORT_PROBE = """
import sys
import numpy

before = set(sys.modules)
import mixlayers

new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - sys.stdlib_module_names - {"numpy", "mixlayers"}))
"""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_import_loads_numpy_alone() -> None:
    probe = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert probe.stdout.split() == []


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_imports_numpy_and_the_standard_library_alone(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"numpy", "mixlayers"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in allowed


@pytest.mark.parametrize("framework", ["torch", "paddle", "chainer", "jax", "flax", "equinox"])
def test_framework_is_installed(framework: str) -> None:
    """A suite that skips what is missing would be green and empty: `make test` installs every framework."""
    assert metadata.version({"paddle": "paddlepaddle"}.get(framework, framework))


@pytest.mark.parametrize("backend", BACKENDS)
def test_face_shows_its_backend_and_nothing_else(backend: str) -> None:
    face = import_module(f"mixlayers.{FACES[backend]}")
    behind = import_module(backend)
    assert face.__all__ == behind.__all__
    for name in behind.__all__:
        assert getattr(face, name) is getattr(behind, name)


@pytest.mark.parametrize(
    "folder", ["mixlayers", "backends", "tests", "examples", "benchmarks", "docs/_extensions"]
)
def test_files_are_short(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".c", ".h")]
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert files and {file: n for file, n in lines.items() if n >= 300} == {}, "one idea a file: split it"


def test_files_that_are_to_begin_first_are_there() -> None:
    assert [name for name in FIRST if not (ROOT / "tests" / name).exists()] == []
