"""Mixing for Equinox; losses and metrics are `mixlayers.jax`'s."""

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
from mixlayers_jax.equinox import IEBN as IEBN
from mixlayers_jax.equinox import RBN as RBN
from mixlayers_jax.equinox import Mixer as Mixer
from mixlayers_jax.equinox import audit as audit
from mixlayers_jax.equinox import convert_iebn as convert_iebn
from mixlayers_jax.equinox import convert_rbn as convert_rbn
from mixlayers_jax.equinox import iebn_decay_mask as iebn_decay_mask
from mixlayers_jax.equinox import revert_iebn as revert_iebn
from mixlayers_jax.equinox import revert_rbn as revert_rbn

__all__ = [
    "IEBN",
    "RBN",
    "Mixer",
    "audit",
    "convert_iebn",
    "convert_rbn",
    "iebn_decay_mask",
    "revert_iebn",
    "revert_rbn",
]
