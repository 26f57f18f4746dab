"""How Sphinx builds the documentation: `make docs`, offline, warnings being errors."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(Path(__file__).parent / "_extensions")]

import mixlayers.chainer  # noqa: E402  # before chainer, which it helps to be imported

project = "mixlayers"
author = "the mixlayers authors"
copyright = "the mixlayers authors, MIT licence"
release = mixlayers.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
    "mathml",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_extensions"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

autodoc_typehints = "signature"
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"

html_theme = "furo"
html_title = "mixlayers"
html_static_path: list[str] = []
html_show_sourcelink = False
html_copy_source = False
