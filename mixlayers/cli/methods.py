"""The methods that the demo trains: name, title, how a user would write it, and its look in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mixlayers import (
    DSU,
    AlignMixup,
    CutMix,
    DropBlock,
    FMix,
    GMix,
    HMix,
    ManifoldMixup,
    Method,
    MixStyle,
    Mixup,
    MoEx,
    NoisyFeatureMixup,
    PAdaIN,
    PatchUp,
    Remix,
    ResizeMix,
    SpecMix,
)
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


COMPARED: Final[Mapping[str, Entry]] = {
    "plain": Entry("plain", None, (), "#000000", "solid"),
    "mixup": Entry("Mixup", Mixup(), "input", "#E69F00", "dashed"),
    "cutmix": Entry("CutMix", CutMix(), "input", "#56B4E9", "dashed"),
    "manifold": Entry("Manifold Mixup", ManifoldMixup(), HIDDEN, "#009E73", "solid"),
    "patchup-hard": Entry("PatchUp hard", PatchUp("hard"), HIDDEN, "#D55E00", "dashdot"),
    "patchup-soft": Entry("PatchUp soft", PatchUp("soft"), HIDDEN, "#CC79A7", "dashdot"),
}
"""What the demo compares, unless it is told."""

METHODS: Final[Mapping[str, Entry]] = {
    **COMPARED,
    "fmix": Entry("FMix", FMix(), "input", "#E69F00", "dotted"),
    "hmix": Entry("HMix", HMix(), "input", "#56B4E9", "dotted"),
    "gmix": Entry("GMix", GMix(), "input", "#009E73", "dotted"),
    "resizemix": Entry("ResizeMix", ResizeMix(), "input", "#D55E00", "dotted"),
    "specmix": Entry("SpecMix", SpecMix(), "input", "#CC79A7", "dotted"),
    "remix": Entry("Remix", Remix(Mixup(), (1,) * 10), "input", "#0072B2", "dotted"),
    "noisy": Entry("Noisy Feature Mixup", NoisyFeatureMixup(), HIDDEN, "#E69F00", "dashdot"),
    "align": Entry("AlignMixup", AlignMixup(rounds=20), ("input", "layer3"), "#56B4E9", "dashdot"),
    "moex": Entry("MoEx", MoEx(0.5, prob=0.25), "stem", "#009E73", "dashdot"),
    "mixstyle": Entry("MixStyle", MixStyle(), ("layer1", "layer2"), "#D55E00", "dashed"),
    "dsu": Entry("DSU", DSU(), ("stem", "layer1", "layer2", "layer3"), "#CC79A7", "dashed"),
    "padain": Entry("pAdaIN", PAdaIN(), ("layer1", "layer2"), "#009E73", "dashed"),
    "dropblock": Entry(
        "DropBlock", DropBlock(block_size=3, every_place=True), ("layer2", "layer3"), "#0072B2", "dashed"
    ),
}


def chosen_methods(text: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list, each once, in its order; None: those that are compared; "all": all.

    Raises:
        Stop: If a name is unknown, or there is none.
    """
    if text is None:
        return tuple(COMPARED)
    if text.strip().lower() == "all":
        return tuple(METHODS)
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in METHODS:
            raise Stop(f"--methods knows {', '.join(METHODS)} and all; got {name!r}.", WRONG_USE)
    if not names:
        raise Stop(f"--methods needs at least one of {', '.join(METHODS)}; got {text!r}.", WRONG_USE)
    return names
