"""The parts of a new method, mask, pair policy or framework: see docs/extending.md.

A **method** derives from `MixingMethod` and draws lam and a recipe. A **recipe** is a mask that is drawn once the
feature's shape is known, as `Box` and `Blocks`. A **pair policy** is a permutation. A **framework** implements
`Framework`'s few operations (`NumPy` is the shortest one), and `mix_batch` then mixes with every method.
"""

from mixlayers._core.batch.mix import mix_batch as mix_batch
from mixlayers._core.checks import check_integer as check_integer
from mixlayers._core.framework.framework import Framework as Framework
from mixlayers._core.framework.numpy_arrays import NumPy as NumPy
from mixlayers._core.methods.method import Method as Method
from mixlayers._core.methods.method import MixingMethod as MixingMethod
from mixlayers._core.methods.method import check_alpha as check_alpha
from mixlayers._core.methods.method import check_fraction as check_fraction
from mixlayers._core.plan.exchanges import Permutation as Permutation
from mixlayers._core.plan.lam import Lam as Lam
from mixlayers._core.plan.lam import draw_lam as draw_lam
from mixlayers._core.plan.masks import Blocks as Blocks
from mixlayers._core.plan.masks import Box as Box
from mixlayers._core.plan.masks import Mask as Mask
from mixlayers._core.plan.plan import Blend as Blend
from mixlayers._core.plan.plan import Recipe as Recipe
from mixlayers._core.plan.replacements import Replace as Replace

__all__ = [
    "Blend",
    "Blocks",
    "Box",
    "Framework",
    "Lam",
    "Mask",
    "Method",
    "MixingMethod",
    "NumPy",
    "Permutation",
    "Recipe",
    "Replace",
    "check_alpha",
    "check_fraction",
    "check_integer",
    "draw_lam",
    "mix_batch",
]
