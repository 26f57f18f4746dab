"""The blocks of the pages that only this lane can run."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "trainers"
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n\n?```text\n(?P<printed>.*?)^```$", re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("page", ["fastai"])
def test_page_runs(page: str) -> None:
    blocks = list(BLOCK.finditer((PAGES / f"{page}.md").read_text(encoding="utf-8")))
    assert blocks
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], page, "exec"), {"__name__": page})
        assert printed.getvalue().splitlines()[-1] == block["printed"].rstrip()
