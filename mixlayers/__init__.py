"""Hidden-layer mixing for anybody's model: the core, in pure NumPy, that decides.

`mixlayers.torch` carries it out. `import mixlayers` loads NumPy and nothing else.
"""

import sys

from mixlayers._core.audit.report import Audit as Audit
from mixlayers._core.audit.report import Point as Point
from mixlayers._core.batch.detection import MixedBoxes as MixedBoxes
from mixlayers._core.errors import MixingError as MixingError
from mixlayers._core.labels.target import MixedTarget as MixedTarget
from mixlayers._core.methods.alignmixup import AlignMixup as AlignMixup
from mixlayers._core.methods.around import Beside as Beside
from mixlayers._core.methods.around import Remix as Remix
from mixlayers._core.methods.combined import OneOf as OneOf
from mixlayers._core.methods.combined import Scheduled as Scheduled
from mixlayers._core.methods.cutmix import CutMix as CutMix
from mixlayers._core.methods.dropblock import DropBlock as DropBlock
from mixlayers._core.methods.dropblock import Erasing as Erasing
from mixlayers._core.methods.fmix import FMix as FMix
from mixlayers._core.methods.hmix import GMix as GMix
from mixlayers._core.methods.hmix import HMix as HMix
from mixlayers._core.methods.method import Method as Method
from mixlayers._core.methods.mixstyle import DSU as DSU
from mixlayers._core.methods.mixstyle import MixStyle as MixStyle
from mixlayers._core.methods.mixstyle import PAdaIN as PAdaIN
from mixlayers._core.methods.mixup import ManifoldMixup as ManifoldMixup
from mixlayers._core.methods.mixup import Mixup as Mixup
from mixlayers._core.methods.moex import MoEx as MoEx
from mixlayers._core.methods.noisy import NoisyFeatureMixup as NoisyFeatureMixup
from mixlayers._core.methods.patchup import PatchUp as PatchUp
from mixlayers._core.methods.resizemix import ResizeMix as ResizeMix
from mixlayers._core.methods.specmix import SpecMix as SpecMix
from mixlayers._core.model.history import History as History
from mixlayers._core.model.history import MixRecord as MixRecord
from mixlayers._core.plan.groups import Across as Across
from mixlayers._core.plan.groups import Halves as Halves
from mixlayers._core.plan.pairs import Apart as Apart
from mixlayers._core.plan.pairs import Near as Near
from mixlayers._core.plan.plan import MixPlan as MixPlan

__all__ = [
    "AlignMixup",
    "NoisyFeatureMixup",
    "MoEx",
    "PAdaIN",
    "DSU",
    "MixStyle",
    "ResizeMix",
    "GMix",
    "HMix",
    "FMix",
    "SpecMix",
    "Across",
    "Halves",
    "Beside",
    "Remix",
    "Apart",
    "Audit",
    "CutMix",
    "DropBlock",
    "Erasing",
    "History",
    "ManifoldMixup",
    "Method",
    "MixPlan",
    "MixRecord",
    "MixedBoxes",
    "MixedTarget",
    "MixingError",
    "Mixup",
    "Near",
    "OneOf",
    "PatchUp",
    "Point",
    "Scheduled",
]

__version__ = "0.1.0"

_OF_A_FRAMEWORK = (
    "Mixer", "MixCollate", "accuracy", "audit", "binary_cross_entropy", "calibration_error", "convert_iebn",
    "convert_rbn", "cross_entropy", "get_mixer", "mix", "mix_detection", "temperature", "unwrap", "wrap",
)  # fmt: skip


def __getattr__(name: str) -> object:
    """Raise, saying where the name is that was sought here."""
    hint = f"module 'mixlayers' has no attribute {name!r}"
    meant = [known for known in __all__ if known.lower() == name.lower().replace("_", "")]
    if name in _OF_A_FRAMEWORK:
        hint = (
            f"mixlayers itself has no {name!r}, each framework has its own: from mixlayers.torch import {name}, or of "
            "mixlayers.paddle, mixlayers.chainer."
        )
    elif meant:
        hint = f"mixlayers has no {name!r}; it is {meant[0]}: from mixlayers import {meant[0]}."
    else:
        raise AttributeError(hint)
    # of an AttributeError `from mixlayers import name` does not show the text
    importing = sys._getframe(1).f_globals.get("__name__") == "importlib._bootstrap"
    raise ImportError(hint, name=__name__) if importing else AttributeError(hint)
