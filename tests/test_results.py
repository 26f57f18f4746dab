"""Every table of docs/results.md, the race and the recipe's table say it where they are older than their code."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import stale  # noqa: E402
from parts import report  # noqa: E402
from parts.ages import MANY, changed, code_of, digest, line  # noqa: E402
from parts.page import between  # noqa: E402
from parts.timing import Row, Scale, Spread  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))
SOURCE = '''"""A module."""

LIMIT = 1.5


def step(x):
    """A step."""
    # doubles
    return f"{2 * x:.1f}"
'''
PAGE = """# Costs

## A: `python benchmarks/a.py --quick`

<!-- measured -->

old

<!-- end of measured -->
"""


@pytest.mark.parametrize(
    ("page", "after", "said"), stale.blocks(), ids=lambda value: str(value)[-30:].strip()
)
def test_the_page_says_which_numbers_are_older_than_their_code(page: Path, after: str, said: str) -> None:
    assert between(page.read_text(encoding="utf-8"), "measured", after) == said, (
        "run: python benchmarks/stale.py --write (or measure again, with --record)"
    )


def test_every_section_has_its_record() -> None:
    _, *sections = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n## ")
    assert all(section.count("<!-- measured -->") == 1 for section in sections)
    commands = report.sections()
    assert len(commands) == len(sections)
    assert commands == list(json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8")))
    assert all((ROOT / command.partition(" ")[0]).exists() for command in commands)


@pytest.mark.parametrize("old", ['"""A module."""\n', '"""A step."""', "# doubles", "\n\n\n"])
def test_prose_and_layout_do_not_age_a_number(old: str) -> None:
    new = {'"""A module."""\n': "", "\n\n\n": "\n\n"}.get(old, old.replace("A", "Another").replace("d", "e"))
    assert old in SOURCE and digest(SOURCE.replace(old, new)) == digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"), [("1.5", "1.6"), ("2 * x", "3 * x"), (".1f", ".2f"), ("(x)", "(x, y)")]
)
def test_code_ages_a_number(old: str, new: str) -> None:
    assert old in SOURCE and digest(SOURCE.replace(old, new)) != digest(SOURCE)


def test_every_python_sees_the_same_code() -> None:
    assert digest(SOURCE) == "849b8d54744b"


def test_a_change_anywhere_below_ages_a_number(tmp_path: Path) -> None:
    package = tmp_path / "mixlayers"
    package.mkdir()
    top, face, below = tmp_path / "top.py", package / "__init__.py", package / "_below.py"
    top.write_text("from mixlayers import step, other\n")
    face.write_text("from mixlayers._below import step as step\nfrom mixlayers._gone import other as other\n")
    below.write_text(SOURCE)
    (package / "_gone.py").write_text("from mixlayers._below import LIMIT\n")
    code = code_of([top], tmp_path)
    assert list(code) == ["mixlayers/_below.py", "mixlayers/_gone.py", "top.py"]
    below.write_text(SOURCE.replace("A step", "One step"))
    face.write_text(face.read_text() + "more = 1\n")
    assert line(code, tmp_path) == ""
    below.write_text(SOURCE.replace("1.5", "1.6"))
    (package / "_gone.py").unlink()
    assert line(code, tmp_path) == "Measured before changes in `mixlayers/_below.py`, `mixlayers/_gone.py`."
    many = {f"{number}.py": "gone" for number in range(MANY)}
    assert f" changes in {MANY + 2} of the {MANY + 3} files " in line({**code, **many}, tmp_path)


def test_what_a_benchmark_runs_is_found_by_its_imports() -> None:
    mixing = code_of([ROOT / "benchmarks" / "parts" / "steps.py"])
    names = {"mixlayers_torch/_blend.py", "mixlayers_torch/_hooks.py"}
    assert mixing.keys() >= {
        "mixlayers/_core/model/session.py",
        "mixlayers/_core/methods/patchup.py",
        *(f"backends/{name}" for name in names),
    }
    iebn = code_of([ROOT / "benchmarks" / "iebn.py"])
    assert {Path(path).name for path in iebn if "_torch/" in path} == {
        path.name
        for path in (ROOT / "backends" / "mixlayers_torch").glob("_iebn*.py")
        if path.stem not in ("_iebn_sync", "_iebn_act")
    }
    assert not any(path.endswith("report.py") for path in iebn)


def times(scale: Scale) -> Iterator[Row]:
    yield Row("step", f"of {scale.rounds} rounds", "ms", Spread(1.0, 0.5, 2.0), limit=1.5)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "DOCS", tmp_path)
    (tmp_path / "results.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "results.json").write_text('{"benchmarks/gone.py": {}}', encoding="utf-8")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/a.py", *options])
    report.main({"step": times}, ["numpy"], lambda threads: None, threads=3)


def test_a_benchmark_writes_its_section(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--quick", "--record")
    records = json.loads((docs / "results.json").read_text(encoding="utf-8"))
    record = records["benchmarks/a.py --quick"]
    page = (docs / "results.md").read_text(encoding="utf-8")
    assert list(records) == report.sections() and page == PAGE.replace("old", report.block(record))
    assert "| step: of 5 rounds | default | ms   | 1 [0.5, 2] |        | 1.5   | yes |\n\n20" in page
    assert "3 threads" in record["ran"] and "Measured before" not in page
    assert "tests/test_results.py" in record["code"] and not changed(record["code"])
    assert "\n".join(record["table"]) in capsys.readouterr().out


def test_another_command_than_the_heading_s_is_not_recorded(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--tiny", "--record")
    assert "no section of `benchmarks/a.py --tiny`" in capsys.readouterr().err
    assert (docs / "results.md").read_text(encoding="utf-8") == PAGE
