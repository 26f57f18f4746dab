"""Write a generated part of a page, between its two marks."""

from pathlib import Path


def between(page: str, name: str) -> str:
    """What stands between `<!-- name -->` and `<!-- end of name -->`."""
    return _parts(page, name)[1]


def put(path: Path, name: str, text: str) -> None:
    """Replace it.

    Raises:
        ValueError: If the page lacks the marks.
    """
    before, _, after = _parts(path.read_text(encoding="utf-8"), name)
    path.write_text(before + text + after, encoding="utf-8")


def _parts(page: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end of {name} -->"
    start = page.index(begin) + len(begin)
    stop = page.index(end, start)
    return page[:start], page[start:stop], page[stop:]
