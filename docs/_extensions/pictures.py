"""Pictures for both themes: plots on white are marked for the style sheet, examples without a picture get a tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx_gallery.directives import imgsgnode

DOCS = Path(__file__).parents[1]
THUMBNAILS = DOCS / "gallery" / "images" / "thumb"
DEFAULT = DOCS / "pictures" / "example.svg"
PLOTS_ALIKE = ("text", "lightning_callback", "huggingface_trainer", "jax_nnx", "keras_fit")
"""Examples that draw nothing but a history, which cannot be told from another's in small."""
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
"""Okabe's and Ito's."""
MOSTLY = 0.7
"""How much of a plot is white, at least; what is less so has images in it, which must not be turned over."""
WIDE = 1000
"""Pixels."""
TILE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 280">
  <defs><linearGradient id="b">
    <stop offset=".35" stop-color="{one}"/><stop offset=".65" stop-color="{other}"/>
  </linearGradient></defs>
  <rect width="400" height="280" fill="url(#b)"/>
  <g font-family="sans-serif" font-size="46" font-weight="bold" fill="#ffffff" text-anchor="middle"
     paint-order="stroke" stroke="#000000" stroke-opacity="0.35" stroke-width="7">
{lines}
  </g>
</svg>
"""


def tile(name: str) -> str:
    """A thumbnail that says an example's name over two blended colours."""
    said = name.removeprefix("plot_").split("_")
    top = 160 - 28 * (len(said) - 1)
    lines = (f'    <text x="200" y="{top + 56 * row}">{word}</text>' for row, word in enumerate(said))
    number = sum(map(ord, name))
    one, other = COLOURS[number % 6], COLOURS[(number + 1 + number // 6 % 5) % 6]
    return TILE.format(one=one, other=other, lines="\n".join(lines))


def give_tiles(app: Sphinx) -> None:
    """Replace the gallery's default thumbnails, and those that look alike, once they are there."""
    default = DEFAULT.read_bytes()
    for name in PLOTS_ALIKE:
        plot = THUMBNAILS / f"sphx_glr_{name}_thumb.png"
        if plot.exists():
            plot.unlink()
            plot.with_suffix(".svg").write_bytes(default)
    for path in THUMBNAILS.glob("sphx_glr_*_thumb.svg"):
        name = path.stem.removeprefix("sphx_glr_").removesuffix("_thumb")
        if path.read_bytes() == default:
            path.write_text(tile(name), encoding="utf-8")


def ground(path: Path) -> str:
    """A picture's class for the style sheet: "plot", mostly white; "on-white", images on a white sheet; or none."""
    if path.suffix not in (".png", ".jpg"):
        return ""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGBA"))
    white, drawn = (pixels > 250).all(-1), pixels[..., 3] > 0  # nothing stands around a thumbnail
    if not (white | ~drawn)[:: len(white) - 1, :: white.shape[1] - 1].all():
        return ""
    return "plot" if white[drawn].mean() > MOSTLY else "on-white"


def wide(path: Path) -> bool:
    """Whether a picture's letters would be too small on a phone."""
    with Image.open(path) as image:
        return image.width > WIDE


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Give the style sheet something to know pictures on white by."""
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.exists() and (found := ground(path)):
            image["classes"] += [found] + ["wide"] * wide(path)
    for image in doctree.findall(imgsgnode):  # the gallery's, which writes the first class alone
        found = ground(Path(app.srcdir, image["uri"].lstrip("/")))
        image["class"] = [" ".join([*(image["class"] or []), found])]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", give_tiles, priority=900)  # the gallery makes its files at 500
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
