"""The core's functions, on PyTorch's tensors and models."""

from torch import Tensor

from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.model.wrapping import Wrapping
from mixlayers_torch._framework import IGNORED, TORCH
from mixlayers_torch._hooks import find_mixer, remove_hooks
from mixlayers_torch._mixer import Mixer

_batch = BatchFunctions[Tensor, Tensor](TORCH, IGNORED)
mix, mix_detection = _batch.mix, _batch.mix_detection
accuracy, calibration_error = _batch.accuracy, _batch.calibration_error
temperature = _batch.temperature

_wrapping = Wrapping(Mixer, find_mixer, remove_hooks)
wrap, unwrap, get_mixer = _wrapping.wrap, _wrapping.unwrap, _wrapping.get_mixer
