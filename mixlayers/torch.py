"""Mixing for PyTorch."""

from mixlayers_torch import MixCollate as MixCollate
from mixlayers_torch import Mixer as Mixer
from mixlayers_torch import accuracy as accuracy
from mixlayers_torch import audit as audit
from mixlayers_torch import cross_entropy as cross_entropy
from mixlayers_torch import get_mixer as get_mixer
from mixlayers_torch import mix as mix
from mixlayers_torch import unwrap as unwrap
from mixlayers_torch import wrap as wrap

__all__ = [
    "MixCollate",
    "Mixer",
    "accuracy",
    "audit",
    "cross_entropy",
    "get_mixer",
    "mix",
    "unwrap",
    "wrap",
]
