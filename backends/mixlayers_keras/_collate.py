"""Mix while batches are put together."""

from __future__ import annotations

from typing import Any

import keras

from mixlayers._core.batch.collate import ArrayCollate


class MixCollate(ArrayCollate):
    """Puts samples together and mixes them: `MixCollate(CutMix(), num_classes=10)(samples)`.

    For loaders that take a function of a list of samples, such as PyTorch's `collate_fn=` and Grain's
    `batch(batch_fn=...)`, in front of any Keras model, wrapped or not. Samples hold NumPy arrays, or what NumPy makes
    arrays of. Batches of (x, label) come as `(x, soft_targets)`, NumPy arrays, with float32 targets of shape
    (N, num_classes) for `CategoricalCrossentropy`; of other samples (dicts, named tuples, (index, x, y)) they keep
    their form. uint8 images are blended in float32 and rounded to the nearest; other integers are refused. Channels are
    where `keras.config.image_data_format()` says.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.channel_dim = channel_dim()


def channel_dim() -> int:
    """1 or -1: where Keras has the channels of images."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1
