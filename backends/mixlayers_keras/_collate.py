"""Mix while batches are put together."""

from __future__ import annotations

from typing import Any, Literal, get_args

import keras
import numpy.typing as npt

from mixlayers._core.batch.collate import ArrayCollate

Tensors = Literal["numpy", "torch"]
"""What batches are made of."""


class MixCollate(ArrayCollate):
    """Puts samples together and mixes them: `MixCollate(CutMix(), num_classes=10)(samples)`.

    For loaders that take a function of a list of samples, such as PyTorch's `collate_fn=` and Grain's
    `batch(batch_fn=...)`, in front of any Keras model, wrapped or not. Samples hold NumPy arrays, or what NumPy makes
    arrays of. Batches of (x, label) come as `(x, soft_targets)`, NumPy arrays, with float32 targets of shape
    (N, num_classes) for `CategoricalCrossentropy`; of other samples (dicts, named tuples, (index, x, y)) they keep
    their form. uint8 images are blended in float32 and rounded to the nearest; other integers are refused. Channels are
    where `keras.config.image_data_format()` says.

    Args:
        tensors: "numpy", or "torch" for PyTorch's DataLoader, from which Keras takes PyTorch's tensors alone.
    """

    def __init__(self, *args: Any, tensors: Tensors = "numpy", **kwargs: Any) -> None:
        if tensors not in get_args(Tensors):
            raise ValueError(f'tensors must be "numpy" or "torch", got {tensors!r}.')
        super().__init__(*args, **kwargs)
        self.tensors, self.channel_dim = tensors, channel_dim()

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        if self.tensors == "numpy":
            return array
        import torch  # Keras may run without it

        return torch.from_numpy(array)


def channel_dim() -> int:
    """1 or -1: where Keras has the channels of images."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1
