"""Mixing for PyTorch."""

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
from mixlayers_torch import IEBN1d as IEBN1d
from mixlayers_torch import IEBN2d as IEBN2d
from mixlayers_torch import IEBN3d as IEBN3d
from mixlayers_torch import MixCollate as MixCollate
from mixlayers_torch import Mixer as Mixer
from mixlayers_torch import RBN1d as RBN1d
from mixlayers_torch import RBN2d as RBN2d
from mixlayers_torch import RBN3d as RBN3d
from mixlayers_torch import RepeatedAugmentationSampler as RepeatedAugmentationSampler
from mixlayers_torch import SyncIEBN as SyncIEBN
from mixlayers_torch import SyncRBN as SyncRBN
from mixlayers_torch import accuracy as accuracy
from mixlayers_torch import audit as audit
from mixlayers_torch import binary_cross_entropy as binary_cross_entropy
from mixlayers_torch import calibration_error as calibration_error
from mixlayers_torch import convert_iebn as convert_iebn
from mixlayers_torch import convert_rbn as convert_rbn
from mixlayers_torch import cross_entropy as cross_entropy
from mixlayers_torch import get_mixer as get_mixer
from mixlayers_torch import iebn_parameters as iebn_parameters
from mixlayers_torch import mix as mix
from mixlayers_torch import mix_detection as mix_detection
from mixlayers_torch import revert_iebn as revert_iebn
from mixlayers_torch import revert_rbn as revert_rbn
from mixlayers_torch import temperature as temperature
from mixlayers_torch import to_official_state_dict as to_official_state_dict
from mixlayers_torch import unwrap as unwrap
from mixlayers_torch import update_bn as update_bn
from mixlayers_torch import wrap as wrap

__all__ = [
    "IEBN1d",
    "IEBN2d",
    "IEBN3d",
    "MixCollate",
    "Mixer",
    "RBN1d",
    "RBN2d",
    "RBN3d",
    "RepeatedAugmentationSampler",
    "SyncIEBN",
    "SyncRBN",
    "accuracy",
    "audit",
    "binary_cross_entropy",
    "calibration_error",
    "convert_iebn",
    "convert_rbn",
    "cross_entropy",
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
