"""Formulas as MathML, which browsers lay out themselves: nothing to load, and legible in any theme."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def mathml(formula: str, display: str) -> str:
    """A formula; latex2mathml calls `aligned`, which it does not know, `align*`."""
    return str(convert(formula.replace("{aligned}", "{align*}"), display=display))


def inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """Formulas that `\\qquad` separates stand in a row, or on a phone one below the other."""
    parts = [mathml(part, "block") for part in node.astext().split(r"\qquad")]
    self.body.append(f'<div class="math">{"".join(parts)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
