"""The gallery: docs/tutorials.md and docs/examples.md name examples, and Sphinx-Gallery makes a page of each.

A tutorial is run by each build, which shows what it prints and draws, and can be downloaded as a notebook.
"""

from __future__ import annotations

import re
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst

DOCS = Path(__file__).parents[1]
EXAMPLES, GALLERY = DOCS.parent / "examples", DOCS / "gallery"
HELPERS = ("recipe_common",)
"""Modules in the examples' folder that are no examples."""
LINK = re.compile(rf"\]\((?:\.\./)+examples/(?!{'|'.join(HELPERS)})(\w+)\.py\)")
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("tutorials", "examples")}
TUTORIALS = LINK.findall(PAGES["tutorials"])
RUN = (*TUTORIALS, "plot_two_losses", "seeing")
"""Run by each build, in seconds; of the others the code is shown, and CI runs it."""

FIRST_CELL = """# Needs mixlayers (in a checkout: pip install '.[torch,demo]') and what the imports below name.
%matplotlib inline"""

CARDS = """
```{{eval-rst}}
.. minigallery:: {files}

.. toctree::
   :hidden:

   {pages}
```
"""
CLUTTER = re.compile(
    r"\.\. only:: html\n\n    \.\. note::\n(?:.+\n|\n(?= ))*"  # how to get to the page's end
    r"|    \.\. container:: \S+ sphx-glr-download-zip\n\n.*\n"
)
NOTEBOOK = re.compile(r"    \.\. container:: \S+ sphx-glr-download-jupyter\n\n.*\n")
SHOWN: WeakSet[Figure] = WeakSet()
_FILTERS = ExitStack()


def place(path: str) -> int:
    """Where the two pages name an example, the tutorials first."""
    return "".join(PAGES.values()).index(f"/{Path(path).name})")


def figures(block: object, variables: dict[str, Any], config: dict[str, Any]) -> str:
    """Pictures of a block's Figures, which pyplot does not know: its last value, or new ones in `figures`."""
    values = variables["example_globals"]
    made = [*values.get("figures", {}).values(), values.get("___")]
    new = [figure for figure in made if isinstance(figure, Figure) and figure not in SHOWN]
    SHOWN.update(new)
    paths = []
    for figure, path in zip(new, variables["image_path_iterator"], strict=False):
        figure.savefig(path, dpi=110)
        paths.append(path)
    return figure_rst(paths, config["src_dir"])


def arguments(config: dict[str, Any], variables: dict[str, Any]) -> list[str]:
    """None, but for the example that else makes a folder of a new name in each build, and prints it."""
    return ["../docs/gallery/images"] if Path(variables["src_file"]).stem == "seeing" else []


def strict(config: dict[str, Any], name: str, when: str) -> None:
    """While an example runs, a warning is an error, as in the tests."""
    _FILTERS.close()
    if when == "before":
        _FILTERS.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        # Paddle's own, and JAX's of processes that another example starts, as in pyproject.toml
        warnings.filterwarnings("ignore", "No ccache found|os.fork.. was called")


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead links to examples to their pages, show cards under the sections that have such links."""
    text = source[0]
    if page.startswith("gallery/"):
        text = CLUTTER.sub("", text)
        source[0] = text if Path(page).name in TUTORIALS else NOTEBOOK.sub("", text)
        return
    if page in PAGES:
        text = "\n## ".join(section + cards(LINK.findall(section)) for section in text.split("\n## "))
    source[0] = LINK.sub(r"](/gallery/\1.rst)", text)


def cards(names: list[str]) -> str:
    if not names:
        return ""
    files = " ".join(f"../examples/{name}.py" for name in names)
    return CARDS.format(files=files, pages="\n   ".join(f"/gallery/{name}" for name in names))


def setup(app: Sphinx) -> dict[str, bool]:
    for page in GALLERY.glob("*.rst"):
        if page.stem in HELPERS or not (EXAMPLES / f"{page.stem}.py").exists():
            page.unlink()  # of what is no example any more
    app.connect("source-read", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
