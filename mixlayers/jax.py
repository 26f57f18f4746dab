"""Mixing for JAX: for models that are functions, and what all of its libraries share."""

from mixlayers import DSU as DSU
from mixlayers import Across as Across
from mixlayers import AlignMixup as AlignMixup
from mixlayers import Apart as Apart
from mixlayers import Beside as Beside
from mixlayers import CutMix as CutMix
from mixlayers import DropBlock as DropBlock
from mixlayers import Erasing as Erasing
from mixlayers import FMix as FMix
from mixlayers import GMix as GMix
from mixlayers import Halves as Halves
from mixlayers import HMix as HMix
from mixlayers import ManifoldMixup as ManifoldMixup
from mixlayers import MixedTarget as MixedTarget
from mixlayers import MixingError as MixingError
from mixlayers import MixStyle as MixStyle
from mixlayers import Mixup as Mixup
from mixlayers import MoEx as MoEx
from mixlayers import Near as Near
from mixlayers import NoisyFeatureMixup as NoisyFeatureMixup
from mixlayers import OneOf as OneOf
from mixlayers import PAdaIN as PAdaIN
from mixlayers import PatchUp as PatchUp
from mixlayers import Remix as Remix
from mixlayers import ResizeMix as ResizeMix
from mixlayers import Scheduled as Scheduled
from mixlayers import SpecMix as SpecMix
from mixlayers_jax import MixCollate as MixCollate
from mixlayers_jax import Mixer as Mixer
from mixlayers_jax import Plan as Plan
from mixlayers_jax import accuracy as accuracy
from mixlayers_jax import audit as audit
from mixlayers_jax import binary_cross_entropy as binary_cross_entropy
from mixlayers_jax import blend as blend
from mixlayers_jax import calibration_error as calibration_error
from mixlayers_jax import cross_entropy as cross_entropy
from mixlayers_jax import mix as mix
from mixlayers_jax import mix_detection as mix_detection
from mixlayers_jax import mixed_target as mixed_target
from mixlayers_jax import stacked as stacked
from mixlayers_jax import temperature as temperature
from mixlayers_jax import united as united

__all__ = [
    "MixCollate",
    "Mixer",
    "Plan",
    "accuracy",
    "audit",
    "binary_cross_entropy",
    "blend",
    "calibration_error",
    "cross_entropy",
    "mix",
    "mix_detection",
    "mixed_target",
    "stacked",
    "temperature",
    "united",
]
