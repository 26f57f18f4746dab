"""PaddlePaddle's part: hooks on a model, and plans carried out on its tensors. Use `mixlayers.paddle`."""

import mixlayers_paddle._needs  # noqa: I001  # first: it says the way out where paddle is missing
import mixlayers_paddle._symbolic  # noqa: F401

from mixlayers_paddle._audit import audit as audit
from mixlayers_paddle._collate import MixCollate as MixCollate
from mixlayers_paddle._functions import mix_detection as mix_detection
from mixlayers_paddle._iebn.layer import IEBN as IEBN
from mixlayers_paddle._iebn.layer import IEBN1D as IEBN1D
from mixlayers_paddle._iebn.layer import IEBN2D as IEBN2D
from mixlayers_paddle._iebn.layer import IEBN3D as IEBN3D
from mixlayers_paddle._iebn.layer import from_official_state_dict as from_official_state_dict
from mixlayers_paddle._iebn.layer import to_official_state_dict as to_official_state_dict
from mixlayers_paddle._iebn.convert import convert_iebn as convert_iebn
from mixlayers_paddle._iebn.convert import iebn_parameters as iebn_parameters
from mixlayers_paddle._iebn.convert import revert_iebn as revert_iebn
from mixlayers_paddle._iebn.sync import SyncIEBN as SyncIEBN
from mixlayers_paddle._iebn.update_bn import update_bn as update_bn
from mixlayers_paddle._iebn.rbn import RBN1D as RBN1D
from mixlayers_paddle._iebn.rbn import RBN2D as RBN2D
from mixlayers_paddle._iebn.rbn import RBN3D as RBN3D
from mixlayers_paddle._iebn.convert import convert_rbn as convert_rbn
from mixlayers_paddle._iebn.convert import revert_rbn as revert_rbn
from mixlayers_paddle._loss import binary_cross_entropy as binary_cross_entropy
from mixlayers_paddle._loss import cross_entropy as cross_entropy
from mixlayers_paddle._functions import accuracy as accuracy
from mixlayers_paddle._functions import calibration_error as calibration_error
from mixlayers_paddle._functions import mix as mix
from mixlayers_paddle._functions import temperature as temperature
from mixlayers_paddle._mixer import Mixer as Mixer
from mixlayers_paddle._sampler import RepeatedAugmentationSampler as RepeatedAugmentationSampler
from mixlayers_paddle._functions import get_mixer as get_mixer
from mixlayers_paddle._functions import unwrap as unwrap
from mixlayers_paddle._functions import wrap as wrap

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
