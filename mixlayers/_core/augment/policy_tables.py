"""Facts of the policies' papers: AutoAugment's sub-policies, and how strong each level of an operation is."""

from __future__ import annotations

from functools import cache

import numpy as np

from mixlayers._core.augment.policy import Size

Entry = tuple[str, float, int | None]
"""An operation, the probability that it acts, and its level of 0 to 9 (None where it takes none)."""

RAND_AUGMENT = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""The 14 operations of RandAugment and of TrivialAugment."""

SIGNED = frozenset(RAND_AUGMENT[1:10])
"""The operations that go both ways, each with probability one half."""

AUTO_AUGMENT = {
    "imagenet": """
        Posterize .4 8, Rotate .6 9;      Solarize .6 5, AutoContrast .6;   Equalize .8, Equalize .6
        Posterize .6 7, Posterize .6 6;   Equalize .4, Solarize .2 4;       Equalize .4, Rotate .8 8
        Solarize .6 3, Equalize .6;       Posterize .8 5, Equalize 1;       Rotate .2 3, Solarize .6 8
        Equalize .6, Posterize .4 6;      Rotate .8 8, Color .4 0;          Rotate .4 9, Equalize .6
        Equalize 0, Equalize .8;          Invert .6, Equalize 1;            Color .6 4, Contrast 1 8
        Rotate .8 8, Color 1 2;           Color .8 8, Solarize .8 7;        Sharpness .4 7, Invert .6
        ShearX .6 5, Equalize 1;          Color .4 0, Equalize .6;          Equalize .4, Solarize .2 4
        Solarize .6 5, AutoContrast .6;   Invert .6, Equalize 1;            Color .6 4, Contrast 1 8
        Equalize .8, Equalize .6
    """,
    "cifar10": """
        Invert .1, Contrast .2 6;         Rotate .7 2, TranslateX .3 9;     Sharpness .8 1, Sharpness .9 3
        ShearY .5 8, TranslateY .7 9;     AutoContrast .5, Equalize .9;     ShearY .2 7, Posterize .3 7
        Color .4 3, Brightness .6 7;      Sharpness .3 9, Brightness .7 9;  Equalize .6, Equalize .5
        Contrast .6 7, Sharpness .6 5;    Color .7 7, TranslateX .5 8;      Equalize .3, AutoContrast .4
        TranslateY .4 3, Sharpness .2 6;  Brightness .9 6, Color .2 8;      Solarize .5 2, Invert 0
        Equalize .2, AutoContrast .6;     Equalize .2, Equalize .6;         Color .9 9, Equalize .6
        AutoContrast .8, Solarize .2 8;   Brightness .1 3, Color .7 0;      Solarize .4 5, AutoContrast .9
        TranslateY .9 9, TranslateY .7 9; AutoContrast .9, Solarize .8 3;   Equalize .8, Invert .1
        TranslateY .7 9, AutoContrast .9
    """,
    "svhn": """
        ShearX .9 4, Invert .2;           ShearY .9 8, Invert .7;           Equalize .6, Solarize .6 6
        Invert .9, Equalize .6;           Equalize .6, Rotate .9 3;         ShearX .9 4, AutoContrast .8
        ShearY .9 8, Invert .4;           ShearY .9 5, Solarize .2 6;       Invert .9, AutoContrast .8
        Equalize .6, Rotate .9 3;         ShearX .9 4, Solarize .3 3;       ShearY .8 8, Invert .7
        Equalize .9, TranslateY .6 6;     Invert .9, Equalize .6;           Contrast .3 3, Rotate .8 4
        Invert .8, TranslateY 0 2;        ShearY .7 6, Solarize .4 8;       Invert .6, Rotate .8 4
        ShearY .3 7, TranslateX .9 3;     ShearX .1 6, Invert .6;           Solarize .7 2, TranslateY .6 7
        ShearY .8 4, Invert .8;           ShearX .7 9, TranslateY .8 3;     ShearY .8 5, AutoContrast .7
        ShearX .7 2, Invert .1
    """,
}
"""The 25 sub-policies found on each data set: operation, probability, level; one after another."""


@cache
def sub_policies(policy: str) -> tuple[tuple[Entry, ...], ...]:
    """AutoAugment's 25 sub-policies of two entries each."""
    pairs = AUTO_AUGMENT[policy].strip().replace("\n", ";").split(";")
    return tuple(tuple(_entry(text) for text in pair.split(",")) for pair in pairs)


def _entry(text: str) -> Entry:
    name, probability, *level = text.split()
    return name, float(probability), int(level[0]) if level else None


def strength(name: str, level: int, bins: int, size: Size, *, wide: bool = False) -> float:
    """An operation's strength at a level.

    Args:
        name: The operation.
        level: In [0, bins).
        bins: How many levels there are, >= 2.
        size: The image's (height, width); AutoAugment's and RandAugment's translations grow with it.
        wide: TrivialAugment's wide ranges.
    """
    if name == "Posterize":
        return float(8 - np.round(np.float32(level) / np.float32((bins - 1) / (6 if wide else 4))))
    if name == "Solarize":
        return _level(255.0, 0.0, level, bins)
    if name not in SIGNED:
        return 0.0
    if name.startswith("Translate"):
        largest = 32.0 if wide else 150.0 / 331.0 * size[name == "TranslateX"]
    elif name == "Rotate":
        largest = 135.0 if wide else 30.0
    elif name.startswith("Shear"):
        largest = 0.99 if wide else 0.3
    else:
        largest = 0.99 if wide else 0.9
    return _level(0.0, largest, level, bins)


def _level(first: float, last: float, level: int, bins: int) -> float:
    """One of `bins` equal steps, a float32 step from the nearer end rounded once: as translations are cut to whole
    pixels, the last bit decides."""
    start, stop = np.float32(first), np.float32(last)
    step = float((stop - start) / np.float32(bins - 1))
    exact = float(start) + step * level if level < bins // 2 else float(stop) - step * (bins - 1 - level)
    return float(np.float32(exact))
