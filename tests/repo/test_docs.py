"""What the documentation says is run: the blocks of README and docs, the doctests, the examples.

The ```python blocks of a page share a namespace and run in order. A ```text block right after one is what it
prints. `<!-- not run: reason -->` right before a block leaves it out.
"""

import contextlib
import doctest
import io
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.repo.test_site import PICTURES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in PICTURES)
"""The others are run by each build of the site, and so by test_site.py."""
MODULES = [
    name
    for package in ("mixlayers", *sorted(path.name for path in (ROOT / "backends").glob("mixlayers_*")))
    for name in (
        package,
        *(found.name for found in pkgutil.walk_packages(import_module(package).__path__, f"{package}.")),
    )
    if not name.endswith(("__main__", "trainers.fastai"))  # fastai is in the lane of `make test-vision`
    and "tensorflow" not in name  # and TensorFlow in that of `make test-tf`
]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+) -->\n+)?"
    r"^```python\n(?P<code>.*?)^```\n"
    r"(?:\n*^```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
MOST_NOT_RUN = 3
WIDEST = 86
"""Columns of code that a page shows without scrolling, in a window of 1280 pixels."""
SHORTER = {
    "chainer_manifold_mixup": ("default=40)", "default=2)"),
    "multi_label": ("SEEDS = 300, 200, 3", "SEEDS = 300, 200, 2"),
    "paddle_model": ("epochs=15", "epochs=3"),
}
"""What the longest of these do less of here: epochs whose numbers nobody looks at, one of three seeds. Each of their
lines runs, and their own checks hold."""

ACCURACY = re.compile(r"(?<=accuracy )[01]\.\d+")
"""What another processor's rounding may change: of three hundred steps, a few images of hundreds."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_page_runs(page: Path) -> None:
    namespace = {"__name__": page.stem}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks(page):
            if block["reason"]:
                continue
            line = block.string.count("\n", 0, block.start("code"))
            code = compile(
                "\n" * line + block["code"], relative(page), "exec"
            )  # errors name the page's own line
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            if block["printed"] is not None:
                found, said = (text.rstrip() for text in (printed.getvalue(), block["printed"]))
                assert ACCURACY.sub("", found) == ACCURACY.sub("", said), f"{relative(page)}:{line}"
                reached, promised = (list(map(float, ACCURACY.findall(text))) for text in (found, said))
                assert reached == pytest.approx(promised, abs=0.02), f"{relative(page)}:{line}"


def test_every_python_block_is_found_and_few_are_not_run() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    fences = sum(page.read_text(encoding="utf-8").count("```python") for page in PAGES)
    assert len(found) == fences, "a ```python fence is not closed, or does not begin its line"
    assert sum(block["reason"] is not None for block in found) <= MOST_NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_code_fits_its_page(page: Path) -> None:
    code = "".join(block["code"] for block in blocks(page))
    assert [line for line in code.splitlines() if len(line) > WIDEST] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_line_is_dropped(page: Path) -> None:
    """MyST takes a line that begins with a percent sign for a comment: the site would lose it without a word."""
    prose = re.sub(
        r"^ *(`{3,})\w.*?^ *\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    dropped = [line for line in prose.splitlines() if line.lstrip().startswith("%")]
    assert not dropped, (
        f"{relative(page)} loses {dropped}: move the percent sign away from the line's beginning"
    )


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_page_links_to_what_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{relative(page)} links to {link}, which is not there"


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[subprocess.CompletedProcess[str]]]]:
    """The selected examples, two at a time: each spends its seconds on imports, on one core."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function))
    scripts = [item.callspec.params["script"] for item in items if item.originalname == "test_example_runs"]
    folder = tmp_path_factory.mktemp("examples")
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {script: pool.submit(run_example, shorter(script, folder)) for script in scripts}


def shorter(script: Path, folder: Path) -> Path:
    """The example, or a copy that does less."""
    if script.stem not in SHORTER:
        return script
    (long, short), text = SHORTER[script.stem], script.read_text(encoding="utf-8")
    assert text.count(long) == 1, f"{script.name} has changed: mend SHORTER"
    copy = folder / script.name
    copy.write_text(text.replace(long, short), encoding="utf-8")
    return copy


def run_example(script: Path) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends"))), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:No ccache found:UserWarning",
            script,
        ],  # as in pyproject.toml
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        timeout=300,  # a guard against a hang, generous to a loaded machine
        check=False,
    )


@pytest.mark.parametrize("script", EXAMPLES, ids=relative)
def test_example_runs(script: Path, runs: dict[Path, Future[subprocess.CompletedProcess[str]]]) -> None:
    run = runs[script].result()
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip(), "an example prints its result"
