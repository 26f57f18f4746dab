"""Formulas as MathML, which browsers lay out themselves: nothing to load, and legible in any theme."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def mathml(node: nodes.Element, display: str) -> str:
    """A formula; latex2mathml calls `aligned`, which it does not know, `align*`."""
    return str(convert(node.astext().replace("{aligned}", "{align*}"), display=display))


def inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
