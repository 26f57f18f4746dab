"""Mixing for Chainer.

Import this module before `chainer`: Chainer 7.8.1, the last there is, does not import by itself beside NumPy 2,
setuptools 74 or Python 3.12. An `import chainer` that failed before does no harm.

Two of Chainer's functions use what NumPy 2 has no more, and raise AttributeError there: `F.resize_images`, and
the gradient of `F.as_strided`.
"""

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
from mixlayers_chainer import IEBN as IEBN
from mixlayers_chainer import RBN as RBN
from mixlayers_chainer import BPTTUpdater as BPTTUpdater
from mixlayers_chainer import Classifier as Classifier
from mixlayers_chainer import ManifoldMixupClassifier as ManifoldMixupClassifier
from mixlayers_chainer import MixCollate as MixCollate
from mixlayers_chainer import Mixer as Mixer
from mixlayers_chainer import MultiNodeIEBN as MultiNodeIEBN
from mixlayers_chainer import RepeatedAugmentationSampler as RepeatedAugmentationSampler
from mixlayers_chainer import __all__ as __all__
from mixlayers_chainer import accuracy as accuracy
from mixlayers_chainer import audit as audit
from mixlayers_chainer import binary_cross_entropy as binary_cross_entropy
from mixlayers_chainer import calibration_error as calibration_error
from mixlayers_chainer import convert_iebn as convert_iebn
from mixlayers_chainer import convert_rbn as convert_rbn
from mixlayers_chainer import cross_entropy as cross_entropy
from mixlayers_chainer import get_mixer as get_mixer
from mixlayers_chainer import iebn_parameters as iebn_parameters
from mixlayers_chainer import mix as mix
from mixlayers_chainer import mix_detection as mix_detection
from mixlayers_chainer import revert_iebn as revert_iebn
from mixlayers_chainer import revert_rbn as revert_rbn
from mixlayers_chainer import temperature as temperature
from mixlayers_chainer import unwrap as unwrap
from mixlayers_chainer import update_bn as update_bn
from mixlayers_chainer import wrap as wrap
