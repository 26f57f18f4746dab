"""Hidden-layer mixing for anybody's model: the core, in pure NumPy, that decides.

`mixlayers.torch` carries it out. `import mixlayers` loads NumPy and nothing else.
"""

from mixlayers._compose import OneOf as OneOf
from mixlayers._compose import Scheduled as Scheduled
from mixlayers._cutmix import CutMix as CutMix
from mixlayers._errors import MixingError as MixingError
from mixlayers._method import Method as Method
from mixlayers._mixup import ManifoldMixup as ManifoldMixup
from mixlayers._mixup import Mixup as Mixup
from mixlayers._patchup import PatchUp as PatchUp
from mixlayers._plan import MixPlan as MixPlan
from mixlayers._target import MixedTarget as MixedTarget

__all__ = [
    "CutMix",
    "ManifoldMixup",
    "Method",
    "MixPlan",
    "MixedTarget",
    "MixingError",
    "Mixup",
    "OneOf",
    "PatchUp",
    "Scheduled",
]

__version__ = "0.1.0"
