"""Mixing for PaddlePaddle."""

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
from mixlayers_paddle import IEBN as IEBN
from mixlayers_paddle import IEBN1D as IEBN1D
from mixlayers_paddle import IEBN2D as IEBN2D
from mixlayers_paddle import IEBN3D as IEBN3D
from mixlayers_paddle import RBN1D as RBN1D
from mixlayers_paddle import RBN2D as RBN2D
from mixlayers_paddle import RBN3D as RBN3D
from mixlayers_paddle import MixCollate as MixCollate
from mixlayers_paddle import Mixer as Mixer
from mixlayers_paddle import RepeatedAugmentationSampler as RepeatedAugmentationSampler
from mixlayers_paddle import SyncIEBN as SyncIEBN
from mixlayers_paddle import accuracy as accuracy
from mixlayers_paddle import audit as audit
from mixlayers_paddle import binary_cross_entropy as binary_cross_entropy
from mixlayers_paddle import calibration_error as calibration_error
from mixlayers_paddle import convert_iebn as convert_iebn
from mixlayers_paddle import convert_rbn as convert_rbn
from mixlayers_paddle import cross_entropy as cross_entropy
from mixlayers_paddle import from_official_state_dict as from_official_state_dict
from mixlayers_paddle import get_mixer as get_mixer
from mixlayers_paddle import iebn_parameters as iebn_parameters
from mixlayers_paddle import mix as mix
from mixlayers_paddle import mix_detection as mix_detection
from mixlayers_paddle import revert_iebn as revert_iebn
from mixlayers_paddle import revert_rbn as revert_rbn
from mixlayers_paddle import temperature as temperature
from mixlayers_paddle import to_official_state_dict as to_official_state_dict
from mixlayers_paddle import unwrap as unwrap
from mixlayers_paddle import update_bn as update_bn
from mixlayers_paddle import wrap as wrap

__all__ = [
    "IEBN",
    "IEBN1D",
    "IEBN2D",
    "IEBN3D",
    "MixCollate",
    "Mixer",
    "RBN1D",
    "RBN2D",
    "RBN3D",
    "RepeatedAugmentationSampler",
    "SyncIEBN",
    "accuracy",
    "audit",
    "binary_cross_entropy",
    "calibration_error",
    "convert_iebn",
    "convert_rbn",
    "cross_entropy",
    "from_official_state_dict",
    "get_mixer",
    "iebn_parameters",
    "mix",
    "mix_detection",
    "revert_iebn",
    "revert_rbn",
    "temperature",
    "to_official_state_dict",
    "unwrap",
    "update_bn",
    "wrap",
]
