"""PyTorch's part: hooks on a model, and plans carried out on its tensors. Use `mixlayers.torch`."""

import mixlayers_torch._needs  # noqa: F401, I001  # first: it says the way out where torch is missing

from mixlayers_torch import _asked as _asked  # so that PyTorch's own losses take mixed targets
from mixlayers_torch._audit import audit as audit
from mixlayers_torch._collate import MixCollate as MixCollate
from mixlayers_torch._functions import mix_detection as mix_detection
from mixlayers_torch._iebn.layer import IEBN1d as IEBN1d
from mixlayers_torch._iebn.layer import IEBN2d as IEBN2d
from mixlayers_torch._iebn.layer import IEBN3d as IEBN3d
from mixlayers_torch._iebn.layer import to_official_state_dict as to_official_state_dict
from mixlayers_torch._iebn.convert import convert_iebn as convert_iebn
from mixlayers_torch._iebn.convert import iebn_parameters as iebn_parameters
from mixlayers_torch._iebn.convert import revert_iebn as revert_iebn
from mixlayers_torch._iebn.sync import SyncIEBN as SyncIEBN
from mixlayers_torch._iebn.rbn import RBN1d as RBN1d
from mixlayers_torch._iebn.rbn import RBN2d as RBN2d
from mixlayers_torch._iebn.rbn import RBN3d as RBN3d
from mixlayers_torch._iebn.convert import convert_rbn as convert_rbn
from mixlayers_torch._iebn.convert import revert_rbn as revert_rbn
from mixlayers_torch._iebn.sync import SyncRBN as SyncRBN
from mixlayers_torch._loss import binary_cross_entropy as binary_cross_entropy
from mixlayers_torch._loss import cross_entropy as cross_entropy
from mixlayers_torch._functions import accuracy as accuracy
from mixlayers_torch._functions import calibration_error as calibration_error
from mixlayers_torch._functions import mix as mix
from mixlayers_torch._functions import temperature as temperature
from mixlayers_torch._mixer import Mixer as Mixer
from mixlayers_torch._sampler import RepeatedAugmentationSampler as RepeatedAugmentationSampler
from mixlayers_torch._functions import get_mixer as get_mixer
from mixlayers_torch._functions import unwrap as unwrap
from mixlayers_torch._functions import wrap as wrap
from mixlayers_torch._iebn.update_bn import update_bn as update_bn

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
