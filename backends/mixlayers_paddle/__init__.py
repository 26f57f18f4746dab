"""What only PaddlePaddle can do: hook a model, and carry a plan out on its tensors. Use `mixlayers.paddle`."""

from mixlayers_paddle._audit import audit as audit
from mixlayers_paddle._collate import MixCollate as MixCollate
from mixlayers_paddle._loss import accuracy as accuracy
from mixlayers_paddle._loss import cross_entropy as cross_entropy
from mixlayers_paddle._mix import mix as mix
from mixlayers_paddle._mixer import Mixer as Mixer
from mixlayers_paddle._wrap import get_mixer as get_mixer
from mixlayers_paddle._wrap import unwrap as unwrap
from mixlayers_paddle._wrap import wrap as wrap

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
