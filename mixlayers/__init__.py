"""Hidden-layer mixing for anybody's model: the core, in pure NumPy, that decides.

`mixlayers.torch` carries it out. `import mixlayers` loads NumPy and nothing else.
"""

from mixlayers._compose import OneOf as OneOf
from mixlayers._compose import Scheduled as Scheduled
from mixlayers._cutmix import CutMix as CutMix
from mixlayers._dropblock import DropBlock as DropBlock
from mixlayers._dropblock import Erasing as Erasing
from mixlayers._errors import MixingError as MixingError
from mixlayers._history import History as History
from mixlayers._history import MixRecord as MixRecord
from mixlayers._method import Method as Method
from mixlayers._mixup import ManifoldMixup as ManifoldMixup
from mixlayers._mixup import Mixup as Mixup
from mixlayers._pairs import Apart as Apart
from mixlayers._pairs import Near as Near
from mixlayers._patchup import PatchUp as PatchUp
from mixlayers._plan import MixPlan as MixPlan
from mixlayers._target import MixedTarget as MixedTarget

__all__ = [
    "Apart",
    "CutMix",
    "DropBlock",
    "Erasing",
    "History",
    "ManifoldMixup",
    "Method",
    "MixPlan",
    "MixRecord",
    "MixedTarget",
    "MixingError",
    "Mixup",
    "Near",
    "OneOf",
    "PatchUp",
    "Scheduled",
]

__version__ = "0.1.0"
