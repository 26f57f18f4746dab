"""Mixing for Equinox; losses and metrics are `mixlayers.jax`'s."""

from mixlayers import Apart as Apart
from mixlayers import CutMix as CutMix
from mixlayers import DropBlock as DropBlock
from mixlayers import Erasing as Erasing
from mixlayers import ManifoldMixup as ManifoldMixup
from mixlayers import MixedTarget as MixedTarget
from mixlayers import MixingError as MixingError
from mixlayers import Mixup as Mixup
from mixlayers import Near as Near
from mixlayers import OneOf as OneOf
from mixlayers import PatchUp as PatchUp
from mixlayers import Scheduled as Scheduled
from mixlayers_jax.equinox import Mixer as Mixer
from mixlayers_jax.equinox import audit as audit

__all__ = [
    "Mixer",
    "audit",
]
