"""Mixing for Keras 3, on JAX, PyTorch and TensorFlow."""

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
from mixlayers_keras import IEBN as IEBN
from mixlayers_keras import MixCollate as MixCollate
from mixlayers_keras import Mixer as Mixer
from mixlayers_keras import Mixing as Mixing
from mixlayers_keras import accuracy as accuracy
from mixlayers_keras import audit as audit
from mixlayers_keras import binary_cross_entropy as binary_cross_entropy
from mixlayers_keras import calibration_error as calibration_error
from mixlayers_keras import convert_iebn as convert_iebn
from mixlayers_keras import cross_entropy as cross_entropy
from mixlayers_keras import get_mixer as get_mixer
from mixlayers_keras import iebn_parameters as iebn_parameters
from mixlayers_keras import mix as mix
from mixlayers_keras import mix_detection as mix_detection
from mixlayers_keras import revert_iebn as revert_iebn
from mixlayers_keras import temperature as temperature
from mixlayers_keras import unwrap as unwrap
from mixlayers_keras import wrap as wrap

__all__ = [
    "IEBN",
    "MixCollate",
    "Mixer",
    "Mixing",
    "accuracy",
    "audit",
    "binary_cross_entropy",
    "calibration_error",
    "convert_iebn",
    "cross_entropy",
    "get_mixer",
    "iebn_parameters",
    "mix",
    "mix_detection",
    "revert_iebn",
    "temperature",
    "unwrap",
    "wrap",
]
