"""Write a generated part of a page, between its two marks."""

from pathlib import Path


def between(page: str, name: str, after: str = "") -> str:
    """What stands between `<!-- name -->` and `<!-- end of name -->`, the first such marks after a text of the page.

    Args:
        after: A text in a section; its marks are looked for before the next section's heading.
    """
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
    path.write_text(f"{before}\n\n{text}\n\n{rest}", encoding="utf-8")


def _parts(page: str, name: str, after: str) -> tuple[str, str, str]:
    """The page up to the first mark, with it; what stands between the two; the page from the second mark on."""
    first = page.index(after)
    last = page.find("\n## ", first) if after else -1
    section = page[: None if last < 0 else last]
    start = section.index(f"<!-- {name} -->", first) + len(f"<!-- {name} -->")
    stop = section.index(f"<!-- end of {name} -->", start)
    return page[:start], page[start:stop].strip("\n"), page[stop:]
