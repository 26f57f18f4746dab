"""The core's functions, on PaddlePaddle's tensors and models."""

from paddle import Tensor

from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.model.wrapping import Wrapping
from mixlayers_paddle._framework import IGNORED, PADDLE
from mixlayers_paddle._hooks import find_mixer, remove_hooks
from mixlayers_paddle._mixer import Mixer

_batch = BatchFunctions[Tensor, Tensor](PADDLE, IGNORED)
mix, mix_detection = _batch.mix, _batch.mix_detection
accuracy, calibration_error = _batch.accuracy, _batch.calibration_error
temperature = _batch.temperature

_wrapping = Wrapping(Mixer, find_mixer, remove_hooks)
wrap, unwrap, get_mixer = _wrapping.wrap, _wrapping.unwrap, _wrapping.get_mixer
