"""Every table of docs/results.md is a record, with its commit, date and machine; benchmarks write both."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from parts import report  # noqa: E402
from parts.page import between  # noqa: E402
from parts.timing import Row, Scale, Spread  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))
PAGE = """# Costs

<!-- summary -->

old summary

<!-- end of summary -->

## A: `python benchmarks/a.py --quick`

<!-- measured -->

old

<!-- end of measured -->
"""


def test_every_table_is_its_record_s() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for command, record in json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8")).items():
        assert between(page, "measured", f"{command}`\n") == report.block(record), (
            "change tables by --record only"
        )
        assert re.match(r"20\d\d-\d\d-\d\d.*, commit [0-9a-f]{7}", record["ran"])


def test_every_section_has_its_record() -> None:
    _, *sections = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n## ")
    assert all(section.count("<!-- measured -->") == 1 for section in sections)
    commands = report.sections()
    assert len(commands) == len(sections)
    assert commands == list(json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8")))
    assert all((ROOT / command.partition(" ")[0]).exists() for command in commands)


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
    assert list(records) == report.sections() and page == PAGE.replace(
        "old summary", report.summary(records)
    ).replace("old", report.block(record))
    assert "| step: of 5 rounds | default | ms   | 1 [0.5, 2] |        | 1.5   | yes |\n\n20" in page
    assert f"commit {report.commit()}, 3 threads" in record["ran"]
    assert "\n".join(record["table"]) in capsys.readouterr().out


def test_an_empty_section_is_filled_and_the_next_stays(docs: Path) -> None:
    b = PAGE[PAGE.index("## A") :].replace("a.py", "b.py")
    empty = PAGE.replace("-->\n\nold\n\n<!-- end of measured", "-->\n\n<!-- end of measured")
    (docs / "results.md").write_text(f"{empty}\n{b}", encoding="utf-8")
    (docs / "results.json").write_text("{}", encoding="utf-8")
    report.record("benchmarks/a.py --quick", "today", [*times(Scale(3, 3))])
    page = (docs / "results.md").read_text(encoding="utf-8")
    assert between(page, "measured", "a.py --quick`\n").endswith("today.") and page.endswith(b)


def test_a_section_without_marks_is_told_and_the_next_stays(docs: Path) -> None:
    page = PAGE.replace("## A", "## B: `python benchmarks/b.py`\n\n## A")
    (docs / "results.md").write_text(page, encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacks 'benchmarks/b.py`' with the marks of 'measured'"):
        report.record("benchmarks/b.py", "today", [])
    assert (docs / "results.md").read_text(encoding="utf-8") == page


def test_another_command_than_the_heading_s_is_not_recorded(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--tiny", "--record")
    assert "no section of `benchmarks/a.py --tiny`" in capsys.readouterr().err
    assert (docs / "results.md").read_text(encoding="utf-8") == PAGE


def test_a_commit_with_changes_is_marked(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True
        )

    assert report.commit(tmp_path) == "unknown"
    git("init", "-q")
    (tmp_path / "code.py").write_text("1\n", encoding="utf-8")
    git("add", "code.py")
    git("commit", "-qm", "One")
    clean = report.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "code.py").write_text("2\n", encoding="utf-8")
    assert report.commit(tmp_path) == f"{clean}+"


def test_the_page_begins_with_the_rows_that_matter() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    records = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))
    told = between(page, "summary")
    assert told == report.summary(records)
    assert all(f"| {name} | " in told for name in report.MATTERS), "a row is called otherwise now"
    missed = sum(line.endswith("| NO  |") for record in records.values() for line in record["table"])
    assert told.endswith(f" {missed} were missed.")
