"""Write a generated part of a page, between its two marks."""

from pathlib import Path


def between(page: str, name: str, after: str = "") -> str:
    """What stands between `<!-- name -->` and `<!-- end of name -->`, the first such marks after a text of the page."""
    return _parts(page, name, after)[1]


def put(path: Path, name: str, text: str, after: str = "") -> None:
    """Replace it.

    Raises:
        ValueError: If the page lacks the text or the marks.
    """
    try:
        before, _, rest = _parts(path.read_text(encoding="utf-8"), name, after)
    except ValueError:
        raise ValueError(f"{path} lacks {after.strip()!r} with the marks of {name!r} after it.") from None
    path.write_text(before + text + rest, encoding="utf-8")


def _parts(page: str, name: str, after: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end of {name} -->"
    start = page.index(begin, page.index(after)) + len(begin)
    stop = page.index(end, start)
    return page[:start], page[start:stop], page[stop:]
