"""Mix while batches are put together."""

from __future__ import annotations

from typing import Any

import chainer
import numpy as np
from chainer.dataset import Converter, concat_examples

from mixlayers._arrays import COLLATED
from mixlayers._collate import BaseCollate


class MixCollate(BaseCollate, Converter):
    """A converter that mixes: `StandardUpdater(iterator, optimizer, MixCollate(CutMix(), num_classes=10))`.

    Batches come as `(x, soft_targets)` on the updater's device, with float32 targets of shape (N,
    num_classes), which `F.softmax_cross_entropy` takes as they are; for the accuracy pass `L.Classifier(...,
    accfun=mixlayers.chainer.accuracy)`. Any batch size will do. uint8 images are blended in float32 and
    rounded to the nearest; other integers are refused. Mixing is done by NumPy, before anything is sent to a
    device.

    Args:
        method: An input method, for example Mixup(0.2) or CutMix().
        num_classes: K.
        seed: The run's seed.
        rank: The process's number; give different ranks different numbers.
        smoothing: Label smoothing epsilon in [0, 1).
    """

    framework = COLLATED

    def __call__(self, batch: Any, device: Any = None) -> Any:
        """Put a list of (x, label) together, mix it, and send it to the device."""
        mixed = super().__call__(batch)
        return mixed if device is None else chainer.get_device(device).send(mixed)

    def _collate(self, samples: list[Any]) -> tuple[Any, Any]:
        x, labels = concat_examples(samples)
        return x, np.asarray(labels)

    def _worker(self) -> None:
        return None
