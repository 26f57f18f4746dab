"""The reference: a page of docs/api names a module, and what the module shows is written there, theme by theme."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import typer
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock

MOCKED = ["fastai"]
"""Packages that the documentation is built without."""
OURS = "mixlayers"

PLACE = re.compile(r"^<!-- reference of (\S+) -->$", re.MULTILINE)
COMMANDS = "<!-- commands -->"
PRESETS = "<!-- presets -->"
THEMES: Mapping[str, Sequence[str]] = {
    "A model that mixes": (
        "wrap", "unwrap", "get_mixer", "Mixer", "audit", "Plan", "blend", "stacked", "mixed_target",
        "Classifier", "ManifoldMixupClassifier", "BPTTUpdater", "Mixing",
    ),
    "Batches and loaders": ("mix", "MixCollate", "mix_detection", "RepeatedAugmentationSampler"),
    "Losses and metrics": (
        "cross_entropy", "binary_cross_entropy", "accuracy", "calibration_error", "temperature",
    ),
    "Normalisation": (
        "IEBN", "IEBN2d", "IEBN1d", "IEBN3d", "IEBN2D", "IEBN1D", "IEBN3D", "SyncIEBN", "MultiNodeIEBN", "convert_iebn",
        "revert_iebn", "iebn_parameters", "update_bn", "to_official_state_dict", "from_official_state_dict",
        "RBN", "RBN2d", "RBN1d", "RBN3d", "RBN2D", "RBN1D", "RBN3D", "SyncRBN", "convert_rbn", "revert_rbn",
    ),
    "Mixing methods": (
        "Mixup", "CutMix", "ManifoldMixup", "PatchUp", "FMix", "HMix", "GMix", "ResizeMix", "SpecMix", "AlignMixup",
        "NoisyFeatureMixup", "MoEx", "MixStyle", "DSU", "PAdaIN", "DropBlock", "Erasing",
    ),
    "Methods made of methods": ("OneOf", "Scheduled", "Remix", "Beside"),
    "Who mixes with whom": ("Near", "Apart", "Halves", "Across"),
    "What a step does": ("Method", "MixPlan", "MixedTarget", "MixedBoxes", "MixingError"),
    "What is seen": ("History", "MixRecord", "Audit", "Point"),
    "A method of your own": (
        "MixingMethod", "draw_lam", "check_alpha", "check_fraction", "check_integer", "Lam", "Permutation",
    ),
    "A mask of your own": ("Mask", "Recipe", "Box", "Blocks", "Blend", "Replace"),
    "A framework of your own": ("Framework", "NumPy", "mix_batch"),
    "Policies": ("AutoAugment", "RandAugment", "TrivialAugmentWide"),
    "Single steps": ("Compose", "RandomResizedCrop", "RandomHorizontalFlip", "RandomErasing", "Cutout", "Normalize"),
    "What was drawn": ("Operation", "Crop", "Erase", "apply"),
}  # fmt: skip
"""The headings of a page in their order, each with the names under it; a name in none of them stands under "More"."""
CALLED_BY_OTHERS = re.compile(r"(on|before|after)_|setup$|teardown$|learn$|update_core$")
"""Members that a trainer or a hook calls, never a user."""
ALIASES = {
    "Lam": "A lam: a float for the whole batch, or a float32 array (N,).",
    "Permutation": "Who is whose partner: an int64 array (N,).",
    "Mask": "A bool array, true where the partner shows.",
    "Recipe": "Any recipe of a mask, such as `Box` and `Blocks`; None stands for everywhere.",
}
"""Types that have no docstring of their own."""
TYPE_VARIABLES = {
    "Model": "",
    "AnyMixer": "Mixer",
    "Scalar": "Tensor",
    "LamPer": "str",
    "Policy": "",
    "Any": "",
}
TWINS: dict[str, str] = {}
"""Classes that differ from an earlier one of their page by the first sentence alone, and that one's name."""
LONGEST_TYPE = 40
"""Of a type in a signature; what is longer is told by the description alone."""


def names_of(module: Any) -> tuple[str, ...]:
    """What a module shows: its `__all__`, or else the public things that it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return tuple(listed)
    return tuple(
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isroutine(thing))
        and thing.__module__ == module.__name__
    )


def by_theme(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The headings that have any of the names, with those."""
    left = list(names)
    for theme, members in THEMES.items():
        found = [name for name in members if name in left]
        left = [name for name in left if name not in found]
        if found:
            yield theme, found
    if left:
        yield "More", left


def tail(thing: Any) -> str:
    """A class's docstring without its first paragraph."""
    return (inspect.getdoc(thing) or "").partition("\n\n")[2] if inspect.isclass(thing) else ""


def written(name: str) -> str:
    """A module's reference in Markdown."""
    with mock(MOCKED):
        module = import_module(name)
        found = list(by_theme(names_of(module)))
        parts, firsts = [], dict[str, str]()
        for each in (each for _, names in found for each in names if tail(getattr(module, each))):
            if (first := firsts.setdefault(tail(getattr(module, each)), each)) != each:
                TWINS[f"{name}.{each}"] = first
        for theme, names in found:
            heading = f"## {theme}\n\n" if len(found) > 1 else ""
            blocks = "\n\n".join(block(name, each, getattr(module, each)) for each in names)
            parts.append(f"{heading}```{{eval-rst}}\n{blocks}\n```")
    return "\n\n".join(parts)


def block(module: str, name: str, thing: Any) -> str:
    """The directive that describes one name."""
    if name in ALIASES:
        return f".. py:data:: {name}\n   :module: {module}\n\n   {ALIASES[name]}"
    if not inspect.isclass(thing):
        return f".. autofunction:: {module}.{name}"
    members = "" if f"{module}.{name}" in TWINS else ", ".join(members_of(thing))
    elsewhere = (
        "\n   :no-index:" if module != OURS and getattr(import_module(OURS), name, None) is thing else ""
    )
    return f".. autoclass:: {module}.{name}{elsewhere}" + (f"\n   :members: {members}" if members else "")


def members_of(kind: type) -> list[str]:
    """A class's documented methods and properties, inherited ones too, but for what another library brings along.

    Those that all methods have stand under Method and MixingMethod alone.
    """
    lines = [each for each in kind.__mro__ if each.__module__.startswith(OURS)]
    if "Method" in {each.__name__ for each in lines[1:]} and kind.__name__ != "MixingMethod":
        lines = []
    found = {}
    for each in reversed(lines):
        for name, member in vars(each).items():
            shown = inspect.isroutine(member) or hasattr(member, "__get__")
            doc = getattr(member, "__doc__", None) or "For backends"
            if shown and not name.startswith("_") and "For backends" not in doc:
                found[name] = None
    return [name for name in found if not CALLED_BY_OTHERS.match(name)]


def commands() -> str:
    """The command line: each command, its arguments and options, as --help says them."""
    from mixlayers.cli.app import app

    parts = []
    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
        rows = ["| argument or option | meaning | default |", "|---|---|---|"]
        for option in command.params:
            written_as = ", ".join(option.opts) if option.param_type_name == "option" else option.name.upper()
            default = "" if option.default is None or option.is_flag else f"`{option.default}`"
            rows.append(f"| `{written_as}` | {option.help} | {default} |")
        parts.append(f"## mixlayers {name}\n\n{command.help}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def presets() -> str:
    """Every preset in a row."""
    from mixlayers.presets import PRESETS as FOUND

    rows = ["| name | method | layers in the authors' network | source |", "|---|---|---|---|"]
    for name, preset in FOUND.items():
        layers = ", ".join(f"`{layer}`" for layer in preset.layers)
        rows.append(f"| `{name}` | `{preset.method!r}` | {layers} | {preset.source} |")
    return "\n".join(rows)


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Write a page's modules, commands and presets where it names them."""
    if page.startswith("api/"):
        text = PLACE.sub(lambda place: written(place[1]), source[0])
        for mark, write in ((COMMANDS, commands), (PRESETS, presets)):
            if mark in text:
                text = text.replace(mark, write())
        source[0] = text


def tell_arguments(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Describe the arguments of a dataclass, those of its bases too, as arguments; of a twin, name the other."""
    if what == "class" and name in TWINS:
        lines[:] = [lines[0].split(". ")[0] + f". Everything else is as in `{TWINS[name]}`.", ""]
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)  # before a colon napoleon expects a type
    show_code(lines)
    if what != "class" or not dataclasses.is_dataclass(thing):
        return
    arguments = {field.name for field in dataclasses.fields(thing) if field.init}
    own = described(inspect.getdoc(thing) or "")
    told = {argument: text for argument, text in own.items() if set(words(argument)) <= arguments}
    if own and len(told) < len(own):
        return  # attributes that are no arguments
    seen = {word for argument in told for word in words(argument)}
    for base in thing.__mro__[1:]:
        for argument, text in described(vars(base).get("__doc__") or "").items():
            new = set(words(argument))
            if new <= arguments and not new & seen and dataclasses.is_dataclass(base):
                told[argument] = text
                seen |= new
    if told:
        start = lines.index("Attributes:") if "Attributes:" in lines else len(lines)
        rest = (at for at, line in enumerate(lines) if at > start and re.match(r"\w", line))
        entries = (f"    {line}" for text in told.values() for line in text)
        lines[start : next(rest, len(lines))] = ["", "Args:", *entries, ""]


def show_code(lines: list[str]) -> None:
    """Make an indented paragraph that belongs to no section, formulas or some code, a literal block."""
    lines[:] = [part for line in lines for part in line.replace(",    ", ",\n    ").split("\n")]
    for at in range(len(lines) - 1, 1, -1):
        above = next((line for line in reversed(lines[:at]) if line.strip()), "")
        if lines[at].startswith("    ") and not lines[at - 1].strip() and not above.startswith(" "):
            lines[at:at] = [] if above.endswith("::") else ["::", ""]


def shorten(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """A signature as a reader wants it: types that are short, defaults by their names."""
    if signature is None:
        return None
    told = ", ".join(shortened(parameter) for parameter in parted(signature[1:-1]))
    return f"({told})", short_type(returned or "") or None


def parted(text: str) -> Iterator[str]:
    """A signature's parameters."""
    depth, start = 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield text[start:at].strip()
            start = at + 1
    if text[start:].strip():
        yield text[start:].strip()


def shortened(parameter: str) -> str:
    """One of them, as a reader wants it."""
    name, _, rest = parameter.partition(": ")
    if not rest:
        return parameter
    kind, equals, default = rest.partition(" = ")
    if default.startswith("<"):
        found = re.match(r"<(?:function|built-in function|bound method|class) '?([\w.]+)", default)
        default = found[1].rpartition(".")[2] if found else "..."
    kind = short_type(kind)
    if not kind:
        return f"{name}={default}" if equals else name
    return f"{name}: {kind} = {default}" if equals else f"{name}: {kind}"


def short_type(kind: str) -> str:
    """A type; nothing where it says too little or takes too much room."""
    kind = re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[\w+\]\]", "ndarray", kind)
    kind = TYPE_VARIABLES.get(kind, kind)
    return "" if "~" in kind or len(kind) > LONGEST_TYPE else kind


def words(argument: str) -> list[str]:
    """The arguments that one entry describes."""
    return argument.split(", ")


def described(doc: str) -> dict[str, list[str]]:
    """The entries of a docstring's section "Attributes:", each with its lines."""
    section = re.search(r"^Attributes:\n((?: {4}.*\n?|\n)*)", inspect.cleandoc(doc) + "\n", re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in textwrap.dedent(section[1]).splitlines() if section else []:
        entry = re.match(r"(\w+(?:, \w+)*): ", line)
        if entry:
            found[entry[1]] = [line]
        elif found:
            found[list(found)[-1]].append(line)
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", complete)
    app.connect(
        "autodoc-process-docstring", tell_arguments, priority=400
    )  # napoleon, at 500, reads the result
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
