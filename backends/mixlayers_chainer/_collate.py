"""Mix while batches are put together."""

from __future__ import annotations

from typing import Any

import chainer
from chainer.dataset import Converter, concat_examples

from mixlayers._core.batch.collate import BaseCollate, check_alike
from mixlayers._core.framework.numpy_arrays import COLLATED


class MixCollate(BaseCollate, Converter):
    """A converter that mixes: `StandardUpdater(iterator, optimizer, MixCollate(CutMix(), num_classes=10))`.

    Batches of (x, label) come as `(x, soft_targets)` on the updater's device, with float32 targets of shape (N,
    num_classes), which `F.softmax_cross_entropy` takes as they are; for the accuracy pass `L.Classifier(...,
    accfun=mixlayers.chainer.accuracy)`. Any batch size will do. uint8 images are blended in float32 and
    rounded to the nearest; other integers are refused. Mixing is done by NumPy, before anything is sent to a
    device.
    """

    framework = COLLATED

    def __call__(self, batch: Any, device: Any = None) -> Any:
        """Put a list of (x, label) together, mix it, and send it to the device."""
        mixed = super().__call__(batch)
        return mixed if device is None else chainer.get_device(device).send(mixed)

    def _collate(self, samples: list[Any]) -> Any:
        check_alike(samples)
        return concat_examples([tuple(s) if isinstance(s, tuple | list) else s for s in samples])

    def _worker(self) -> None:
        return None
