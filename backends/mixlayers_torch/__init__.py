"""What only PyTorch can do: hook a model, and carry a plan out on its tensors. Use `mixlayers.torch`."""

from mixlayers_torch._audit import audit as audit
from mixlayers_torch._collate import MixCollate as MixCollate
from mixlayers_torch._loss import accuracy as accuracy
from mixlayers_torch._loss import cross_entropy as cross_entropy
from mixlayers_torch._mix import mix as mix
from mixlayers_torch._mixer import Mixer as Mixer
from mixlayers_torch._wrap import get_mixer as get_mixer
from mixlayers_torch._wrap import unwrap as unwrap
from mixlayers_torch._wrap import wrap as wrap

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
