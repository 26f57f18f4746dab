"""JAX's part: plans as data of jitted functions, carried out on its arrays. Use `mixlayers.jax`."""

import mixlayers_jax._needs  # noqa: F401, I001  # first: it says the way out where JAX is missing

from mixlayers_jax._collate import MixCollate as MixCollate
from mixlayers_jax._functions import mix_detection as mix_detection
from mixlayers_jax._function import Mixer as Mixer
from mixlayers_jax._function import audit as audit
from mixlayers_jax._loss import binary_cross_entropy as binary_cross_entropy
from mixlayers_jax._loss import cross_entropy as cross_entropy
from mixlayers_jax._functions import accuracy as accuracy
from mixlayers_jax._functions import calibration_error as calibration_error
from mixlayers_jax._functions import mix as mix
from mixlayers_jax._functions import temperature as temperature
from mixlayers_jax._padding import united as united
from mixlayers_jax._plan import Plan as Plan
from mixlayers_jax._plan import blend as blend
from mixlayers_jax._plan import stacked as stacked
from mixlayers_jax._target import mixed_target as mixed_target

__all__ = [
    "MixCollate",
    "Mixer",
    "Plan",
    "accuracy",
    "audit",
    "binary_cross_entropy",
    "blend",
    "calibration_error",
    "cross_entropy",
    "mix",
    "mix_detection",
    "mixed_target",
    "stacked",
    "temperature",
    "united",
]
