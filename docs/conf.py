"""How Sphinx builds the documentation: `make docs`, offline, warnings being errors."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(Path(__file__).parent / "_extensions")]

os.environ.setdefault("KERAS_BACKEND", "jax")

from gallery import FIRST_CELL, HELPERS, RUN  # noqa: E402
from reference import MOCKED  # noqa: E402

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
    "sphinx_gallery.gen_gallery",
    "gallery",
    "mathml",
    "pictures",
    "reference",
    "tables",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
# tutorials.md and examples.md are the gallery's entries
exclude_patterns = ["_extensions", "gallery/index.rst"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

add_module_names = False
autodoc_mock_imports = MOCKED
autodoc_typehints = "signature"
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"
smartquotes_action = "D"  # dashes alone: quotes may be code

html_theme = "furo"
html_title = "mixlayers"
html_static_path = ["_static"]
html_css_files = ["mixlayers.css"]
html_theme_options = {"light_logo": "logo_light.svg", "dark_logo": "logo_dark.svg"}
html_show_sourcelink = False
html_copy_source = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "backreferences_dir": "gallery/backreferences",
    "ignore_pattern": rf"^({'|'.join(HELPERS)})\.py$",
    "filename_pattern": rf"/({'|'.join(RUN)})\.py$",
    "within_subsection_order": "FileNameSortKey",
    "minigallery_sort_order": "gallery.place",
    "abort_on_example_error": True,
    "run_stale_examples": True,  # an example that did not change may fail by what did
    "reset_argv": "gallery.arguments",
    "reset_modules": ("matplotlib", "gallery.strict"),
    "reset_modules_order": "both",
    "image_scrapers": ("matplotlib", "gallery.figures"),
    "default_thumb_file": str(ROOT / "docs" / "pictures" / "example.svg"),
    "remove_config_comments": True,
    "first_notebook_cell": FIRST_CELL,
    "capture_repr": (),
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
    "show_signature": False,
}
