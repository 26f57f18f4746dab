"""The documentation's site: it builds without a warning, offline, and leaves no public name undocumented."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import warnings
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from mixlayers.presets import PRESETS

ROOT = Path(__file__).parents[2]
HELPERS = {"recipe_common"}
GALLERY = {name: ROOT / "docs" / f"{name}.md" for name in ("tutorials", "examples")}
EXAMPLES = sorted({path.stem for path in (ROOT / "examples").glob("*.py")} - HELPERS)
TUTORIALS = re.findall(r"\(\.\./examples/(\w+)\.py\)", GALLERY["tutorials"].read_text(encoding="utf-8"))
PICTURES = {
    **dict.fromkeys(TUTORIALS, 1), "first_steps": 2, "segmentation": 2, "domain_shift": 2, "writing_a_method": 2,
    "plot_two_losses": 1, "seeing": 4,
}  # fmt: skip
"""The examples that the build runs, and how many pictures each draws."""
MODULES = {"core": "mixlayers"} | {
    path.stem: f"mixlayers.{path.stem}"
    for path in sorted((ROOT / "mixlayers").glob("*.py"))
    if not path.stem.startswith("_")
}
"""What users import, by the page of docs/api that describes it."""
OWN_NAMES = {"mixlayers.testing": ["check", "Report", "Property"], "mixlayers.presets": ["Preset"]}
"""Of the modules without an `__all__`."""


def names_of(module: str) -> list[str]:
    return OWN_NAMES.get(module) or list(import_module(module).__all__)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    pages += [Path("gallery", f"{name}.html") for name in EXAMPLES]
    for page in pages:
        html = (site / page).read_text(encoding="utf-8")
        for tag in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http'):
            assert tag not in html, f"{page} loads something from the network"
        assert "<mi>&</mi>" not in html, f"{page} has a formula that is not laid out"


def test_a_warning_is_an_error_while_an_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    gallery = import_module("gallery")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gallery.strict({}, "first_steps", "before")
        with pytest.raises(UserWarning, match="planted"):
            warnings.warn("planted", stacklevel=1)
        gallery.strict({}, "first_steps", "after")
        warnings.warn("ignored again", stacklevel=1)


def described(page: str) -> list[str]:
    """The names whose entries a page of the reference has."""
    return re.findall(r'class="sig-name descname"><span class="pre">([^<]+)</span>', page)


@pytest.mark.parametrize("page", MODULES)
def test_reference_has_every_name(site: Path, page: str) -> None:
    html = (site / "api" / f"{page}.html").read_text("utf-8")
    assert set(names_of(MODULES[page])) - set(described(html)) == set()


@pytest.mark.parametrize("page", [*MODULES, "trainers", "command_line"])
def test_reference_has_no_internals(site: Path, page: str) -> None:
    article = (
        (site / "api" / f"{page}.html").read_text("utf-8").partition("<article")[2].partition("</article")[0]
    )
    text = unescape(re.sub(r"<[^>]+>", "", article))
    assert re.findall(r"(?<![\w/])_[a-z]\w*|mixlayers_\w+|\._\w+| object at |~\w", text) == []


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("torch", "Mixer.loss"),
        ("torch", "Mixer.state_dict"),
        ("torch", "Mixer.places"),
        ("torch", "Mixer.last"),
        ("torch", "Mixer.step"),
        ("chainer", "Mixer.loss"),
        ("nnx", "Mixer.plan"),
        ("core", "Method.plan"),
        ("core", "MixedTarget.blend"),
    ],
)
def test_reference_has_inherited_members(site: Path, page: str, name: str) -> None:
    html = (site / "api" / f"{page}.html").read_text("utf-8")
    assert f'id="mixlayers{"" if page == "core" else f".{page}"}.{name}"' in html


@pytest.mark.parametrize("method", ["Mixup", "PatchUp", "ResizeMix", "Remix"])
def test_reference_tells_the_arguments_that_methods_share(site: Path, method: str) -> None:
    html = (site / "api" / "core.html").read_text("utf-8")
    own = html.partition(f'id="mixlayers.{method}"')[2].partition('<dl class="py')[0]
    assert all(f"<strong>{argument}</strong>" in own for argument in ("prob", "lam_per", "pairs"))


def test_reference_has_the_commands_and_presets(site: Path) -> None:
    commands = (site / "api" / "command_line.html").read_text("utf-8")
    assert all(
        f">{option}<" in commands for option in ("--labels-per-class", "--framework", "--all", "--shape")
    )
    presets = (site / "api" / "presets.html").read_text("utf-8")
    assert all(f">{name}<" in presets for name in PRESETS)


@pytest.mark.parametrize("module", MODULES.values())
def test_every_public_name_is_documented(module: str) -> None:
    face = import_module(module)
    for name in names_of(module):
        thing = getattr(face, name)
        assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
        if inspect.isclass(thing):
            for method, member in vars(thing).items():
                method_like = inspect.isroutine(member) or isinstance(member, property)
                if not method.startswith("_") and method_like:
                    assert inspect.getdoc(getattr(thing, method)), (
                        f"{module}.{name}.{method} has no docstring"
                    )


DESCRIBED_ELSEWHERE = {
    "MixedTarget", "SyncIEBN", "SyncRBN", "Report", "Preset", "linen.IEBN", "linen.RBN", "keras.IEBN", "keras.RBN",
}  # fmt: skip
"""Made by the library alone, or with the arguments of another class, which the docstring names."""


def docstrings(thing: Any) -> str:
    """Its own, for a dataclass those of its bases too."""
    kinds = thing.__mro__ if dataclasses.is_dataclass(thing) else [thing]
    return "\n".join(inspect.getdoc(kind) or "" for kind in kinds)


@pytest.mark.parametrize("module", MODULES.values())
def test_every_argument_is_described(module: str) -> None:
    face = import_module(module)
    for name in names_of(module):
        thing = getattr(face, name)
        told = {name, f"{module.rpartition('.')[2]}.{name}"} & DESCRIBED_ELSEWHERE
        if told or name in ("Lam", "Mask", "Permutation", "Recipe", "Plan", "MixingError"):
            continue
        arguments = set(inspect.signature(thing).parameters) - {"self", "args", "kwargs", "options"}
        described = re.findall(r"^ +(\w+(?:, \w+)*): ", docstrings(thing), re.MULTILINE)
        missing = arguments - {each for entry in described for each in entry.split(", ")}
        assert not missing or len(arguments) == 1, f"{module}.{name} does not describe {sorted(missing)}"


def test_every_example_is_shown() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in GALLERY.values())
    missing = [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in pages]
    assert not missing, f"neither docs/tutorials.md nor docs/examples.md shows {missing}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_has_a_card_and_a_page(site: Path, name: str) -> None:
    entry = "tutorials.html" if name in TUTORIALS else "examples.html"
    gallery = (site / entry).read_text(encoding="utf-8")
    assert f'src="_images/sphx_glr_{name}_thumb.' in gallery
    assert f'href="gallery/{name}.html"' in gallery.partition('<div class="sphx-glr-thumbnails">')[2]
    page = (site / "gallery" / f"{name}.html").read_text(encoding="utf-8")
    assert '<div class="highlight-Python' in page
    assert ("sphx-glr-script-out" in page) == (name in PICTURES), "run by the build, or not"
    drawn = set(re.findall(rf"_images/sphx_glr_{name}_\d+\.png", page))
    assert len(drawn) == PICTURES.get(name, 0)
    assert (f"/{name}.ipynb" in page) == (name in TUTORIALS)


@pytest.mark.parametrize("name", TUTORIALS)
def test_notebook_has_the_tutorials_code(site: Path, name: str) -> None:
    page = (site / "gallery" / f"{name}.html").read_text(encoding="utf-8")
    (link,) = set(re.findall(rf'href="\.\./(_downloads/\w+/{name}\.ipynb)"', page))
    _, *cells = json.loads((site / link).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = ast.parse((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    _docstring, *script.body = script.body
    assert ast.dump(ast.parse(code)) == ast.dump(script)


def test_link_to_an_example_leads_to_its_page(site: Path) -> None:
    page = (site / "trainers" / "index.html").read_text(encoding="utf-8")
    assert 'href="../gallery/paddle_model.html"' in page
    assert "_downloads" not in page


def test_navigation_calls_pages_by_their_titles(site: Path) -> None:
    tree = (
        (site / "index.html")
        .read_text(encoding="utf-8")
        .partition('class="sidebar-tree"')[2]
        .partition("</aside>")[0]
    )
    links = re.findall(r'<a class="reference internal" href="([^"#]+)">(.*?)</a>', tree)
    assert len(links) > 40
    for lead, told in links:
        title = re.search(
            r"<h1>(.*?)<a class=\"headerlink\"", (site / lead).read_text(encoding="utf-8"), re.DOTALL
        )
        assert title, f"{lead} has no title"
        assert re.sub(r"<[^>]+>", "", title[1]) == re.sub(r"<[^>]+>", "", told)


class _Page(HTMLParser):
    """A page's own anchors, and what it leads to or shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.leads = {"", "#"}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {found.get("id") or ""}
        self.leads += [value for name in ("href", "src") if (value := found.get(name))]


def test_cells_and_formulas_break_between_their_parts(site: Path) -> None:
    table = (site / "evidence" / "cifar10.html").read_text("utf-8")
    assert re.search(r'<span class="whole">[\d.]+ ±\xa0[\d.]+</span>', table) and "3\xa0of\xa03" in table
    assert re.search(r"\(</span><wbr", (site / "choosing_a_method.html").read_text("utf-8"))
    (formula,) = re.findall(
        r'<div class="math">.*?</div>', (site / "methods" / "iebn.html").read_text("utf-8")
    )
    assert formula.count("<math ") == 3


def test_no_link_is_dead(site: Path) -> None:
    """Between the site's own pages, with their anchors and pictures; the network is not asked."""
    pages = {path.resolve(): _Page(path) for path in site.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for lead in page.leads:
            parts = urlsplit(lead)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors
            if not to.exists() or lost:
                dead.append(f"{path.relative_to(site)}: {lead}")
    assert len(pages) > 40
    assert not dead, f"{len(dead)} dead links: {dead[:10]}"
