"""The methods that the demo compares: name, title, how a user would write it, and its look in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mixlayers import CutMix, ManifoldMixup, Method, Mixup, PatchUp
from mixlayers.cli.stop import WRONG_USE, Stop

HIDDEN: Final = ("input", "layer1", "layer2")
"""Where the papers mix: the input and the ends of the first two stages."""


@dataclass(frozen=True)
class Entry:
    """One method of the comparison.

    Attributes:
        title: For tables and pictures.
        method: What `wrap` gets; None trains the bare model.
        layers: Where it may mix.
        colour, dashes: Of its line in pictures. The colours are Okabe and Ito's, made for every kind of colour
            vision, and the dashes tell the lines apart without any colour.
    """

    title: str
    method: Method | None
    layers: str | tuple[str, ...]
    colour: str
    dashes: str


METHODS: Final[Mapping[str, Entry]] = {
    "plain": Entry("plain", None, (), "#000000", "solid"),
    "mixup": Entry("Mixup", Mixup(), "input", "#E69F00", "dashed"),
    "cutmix": Entry("CutMix", CutMix(), "input", "#56B4E9", "dashed"),
    "manifold": Entry("Manifold Mixup", ManifoldMixup(), HIDDEN, "#009E73", "solid"),
    "patchup-hard": Entry("PatchUp hard", PatchUp("hard"), HIDDEN, "#D55E00", "dashdot"),
    "patchup-soft": Entry("PatchUp soft", PatchUp("soft"), HIDDEN, "#CC79A7", "dashdot"),
}


def chosen_methods(text: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list, each once, in its order; None: all.

    Raises:
        Stop: If a name is unknown, or there is none.
    """
    if text is None:
        return tuple(METHODS)
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in METHODS:
            raise Stop(f"--methods knows {', '.join(METHODS)}; got {name!r}.", WRONG_USE)
    if not names:
        raise Stop(f"--methods needs at least one of {', '.join(METHODS)}; got {text!r}.", WRONG_USE)
    return names
