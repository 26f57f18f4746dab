"""Recipes as JSON holds them, and as they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import numpy as np

from mixlayers._core.plan.alignments import Aligned
from mixlayers._core.plan.bands import Bands
from mixlayers._core.plan.masks import Blocks, Box, BoxAlong
from mixlayers._core.plan.noise import Noise
from mixlayers._core.plan.replacements import DroppedBlocks, ErasedBoxes
from mixlayers._core.plan.resized import ResizedBox
from mixlayers._core.plan.styles import Styled
from mixlayers._core.plan.weights import Bell, FourierField, HollowBox, SoftField

Acts = HollowBox | Bell | SoftField | ResizedBox | Aligned | Noise | Styled | DroppedBlocks | ErasedBoxes
"""Recipes that draw, for a feature, what is to be done there; the others draw a mask."""

Recipe = Box | BoxAlong | Blocks | Bands | FourierField | Acts
"""What a plan draws once a feature's shape is known. Each says whether it is `masked`, so that the partner's share
differs from point to point, and whether the labels stay as they are."""

_RECIPES: Final[dict[str, Any]] = {kind.__name__: kind for kind in get_args(Recipe)}


def to_json(value: Any) -> Any:
    """A number, an array or a tuple as JSON holds it."""
    if isinstance(value, tuple):
        return list(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def from_json(value: Any) -> Any:
    """A float, or float32 of a list.

    Raises:
        TypeError: If it is neither a number nor a list.
    """
    if isinstance(value, str | bytes | bool) or value is None:
        raise TypeError(f"lam must be a number, got {value!r}")
    return np.asarray(value, dtype=np.float32) if isinstance(value, list) else float(value)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe with the name of its kind."""
    return {"kind": type(recipe).__name__, **{name: to_json(value) for name, value in vars(recipe).items()}}


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """A recipe of the dict that `recipe_to_dict` wrote."""
    arguments = {
        name: from_json(value) if name == "lam" else tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
        if name != "kind"
    }
    recipe: Recipe = _RECIPES[data["kind"]](**arguments)
    return recipe
