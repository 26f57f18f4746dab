"""Where a table's cells may break: a mean stays with its deviation, a shape is whole, code breaks between its words."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

WHOLE = re.compile(r"([-+]?[\d.]+ ± [\d.]+|\d+(?: x \d+)+)")
COUNT = re.compile(r"(\d) of (\d)")
JOINTS = re.compile(r"(?<=[(\[{=.,/])(?=[\w\"'])(?![\d.])")
"""Places in code after which a line may begin."""


def unbroken(text: str) -> list[nodes.Node]:
    """The text, its measurements in nodes of their own; a line may begin with a deviation, never after its sign."""
    parts = WHOLE.split(COUNT.sub("\\1\u00a0of\u00a0\\2", text))
    return [
        nodes.inline("", part.replace("± ", "±\u00a0"), classes=["whole"]) if number % 2 else nodes.Text(part)
        for number, part in enumerate(parts)
        if part
    ]


def jointed(code: str) -> list[nodes.Node]:
    first, *rest = JOINTS.split(code)
    found: list[nodes.Node] = [nodes.Text(first)]
    for part in rest:
        found += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]
    return found


def mark(app: Sphinx, doctree: nodes.document) -> None:
    for table in doctree.findall(nodes.table):
        for text in list(table.findall(nodes.Text)):
            if isinstance(text.parent, nodes.literal):
                text.parent.replace(text, jointed(str(text)))
            elif WHOLE.search(text):
                text.parent.replace(text, unbroken(str(text)))
        if "±" in table.astext():
            table["classes"].append("measurements")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
