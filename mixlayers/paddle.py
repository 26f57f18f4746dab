"""Mixing for PaddlePaddle."""

from mixlayers_paddle import MixCollate as MixCollate
from mixlayers_paddle import Mixer as Mixer
from mixlayers_paddle import accuracy as accuracy
from mixlayers_paddle import audit as audit
from mixlayers_paddle import cross_entropy as cross_entropy
from mixlayers_paddle import get_mixer as get_mixer
from mixlayers_paddle import mix as mix
from mixlayers_paddle import unwrap as unwrap
from mixlayers_paddle import wrap as wrap

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
