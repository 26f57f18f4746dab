"""The core's functions, on Chainer's tensors and models."""

from chainer import Variable

from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.model.wrapping import Wrapping
from mixlayers_chainer._blend import Array
from mixlayers_chainer._framework import CHAINER, IGNORED
from mixlayers_chainer._hooks import find_mixer, remove_hooks
from mixlayers_chainer._mixer import Mixer

_batch = BatchFunctions[Variable | Array, Variable](CHAINER, IGNORED)
mix, mix_detection = _batch.mix, _batch.mix_detection
accuracy, calibration_error = _batch.accuracy, _batch.calibration_error
temperature = _batch.temperature

_wrapping = Wrapping(Mixer, find_mixer, remove_hooks)
wrap, unwrap, get_mixer = _wrapping.wrap, _wrapping.unwrap, _wrapping.get_mixer
