"""Keras' part: fit mixes, and the plan rides with the batch. Use `mixlayers.keras`."""

import mixlayers_keras._needs  # noqa: F401, I001  # first: it says the way out where Keras is missing

from mixlayers_keras._audit import audit as audit
from mixlayers_keras._callback import Mixing as Mixing
from mixlayers_keras._collate import MixCollate as MixCollate
from mixlayers_keras._functions import accuracy as accuracy
from mixlayers_keras._functions import binary_cross_entropy as binary_cross_entropy
from mixlayers_keras._functions import calibration_error as calibration_error
from mixlayers_keras._functions import cross_entropy as cross_entropy
from mixlayers_keras._functions import mix as mix
from mixlayers_keras._functions import mix_detection as mix_detection
from mixlayers_keras._functions import temperature as temperature
from mixlayers_keras._iebn.convert import convert_iebn as convert_iebn
from mixlayers_keras._iebn.convert import convert_rbn as convert_rbn
from mixlayers_keras._iebn.convert import iebn_parameters as iebn_parameters
from mixlayers_keras._iebn.convert import revert_iebn as revert_iebn
from mixlayers_keras._iebn.convert import revert_rbn as revert_rbn
from mixlayers_keras._iebn.layer import IEBN as IEBN
from mixlayers_keras._iebn.layer import RBN as RBN
from mixlayers_keras._mixer import Mixer as Mixer
from mixlayers_keras._mixer import get_mixer as get_mixer
from mixlayers_keras._mixer import unwrap as unwrap
from mixlayers_keras._mixer import wrap as wrap

__all__ = [
    "IEBN",
    "RBN",
    "MixCollate",
    "Mixer",
    "Mixing",
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
    "unwrap",
    "wrap",
]
