"""Chainer's part: hooks on a model, and plans carried out on its arrays. Use `mixlayers.chainer`."""

import mixlayers_chainer._shim  # noqa: F401, I001  # first: it imports a Chainer that may not import by itself

from mixlayers_chainer._bptt import BPTTUpdater as BPTTUpdater
from mixlayers_chainer._audit import audit as audit
from mixlayers_chainer._classifier import Classifier as Classifier
from mixlayers_chainer._classifier import ManifoldMixupClassifier as ManifoldMixupClassifier
from mixlayers_chainer._collate import MixCollate as MixCollate
from mixlayers_chainer._functions import mix_detection as mix_detection
from mixlayers_chainer._iebn.layer import IEBN as IEBN
from mixlayers_chainer._iebn.convert import convert_iebn as convert_iebn
from mixlayers_chainer._iebn.convert import iebn_parameters as iebn_parameters
from mixlayers_chainer._iebn.convert import revert_iebn as revert_iebn
from mixlayers_chainer._iebn.sync import MultiNodeIEBN as MultiNodeIEBN
from mixlayers_chainer._iebn.update_bn import update_bn as update_bn
from mixlayers_chainer._iebn.rbn import RBN as RBN
from mixlayers_chainer._iebn.convert import convert_rbn as convert_rbn
from mixlayers_chainer._iebn.convert import revert_rbn as revert_rbn
from mixlayers_chainer._loss import binary_cross_entropy as binary_cross_entropy
from mixlayers_chainer._loss import cross_entropy as cross_entropy
from mixlayers_chainer._functions import accuracy as accuracy
from mixlayers_chainer._functions import calibration_error as calibration_error
from mixlayers_chainer._functions import mix as mix
from mixlayers_chainer._functions import temperature as temperature
from mixlayers_chainer._mixer import Mixer as Mixer
from mixlayers_chainer._sampler import RepeatedAugmentationSampler as RepeatedAugmentationSampler
from mixlayers_chainer._functions import get_mixer as get_mixer
from mixlayers_chainer._functions import unwrap as unwrap
from mixlayers_chainer._functions import wrap as wrap

__all__ = [
    "BPTTUpdater",
    "Classifier",
    "IEBN",
    "ManifoldMixupClassifier",
    "MixCollate",
    "Mixer",
    "MultiNodeIEBN",
    "RBN",
    "RepeatedAugmentationSampler",
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
    "update_bn",
    "wrap",
]
