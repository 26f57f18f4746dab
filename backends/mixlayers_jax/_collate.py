"""Mix while batches are put together."""

from __future__ import annotations

from mixlayers._core.batch.collate import ArrayCollate
from mixlayers_jax._framework import JAX


class MixCollate(ArrayCollate):
    """Puts samples of NumPy arrays together and mixes them: `MixCollate(CutMix(), num_classes=10)(samples)`.

    For loaders that take a function of a list of samples, such as Grain's `batch(batch_fn=...)` or PyTorch's
    `collate_fn=`. Batches of (x, label) come as `(x, soft_targets)`, NumPy arrays that jitted functions take, with
    float32 targets of shape (N, num_classes); of other samples (dicts, named tuples, (index, x, y)) they keep their
    form. uint8 images are blended in float32 and rounded to the nearest; other integers are refused. Images are
    (H, W, C).

    Args:
        method: An input method, for example Mixup(0.2) or CutMix().
        num_classes: How many classes there are, K.
        seed: The run's seed; worker processes draw differently.
        rank: The process's number; give different ranks different numbers.
        smoothing: Label smoothing epsilon in [0, 1).
        labels_getter: Where the labels are in a collated batch: a key ("label"), a position (2 for samples of
            (index, x, y)), or a function of the batch. None: the second of (x, y), or the one entry of a dict or named
            tuple that is called label, labels, target, targets, y, class, classes or category.
        labels: What whole-number labels are: class "indices", or "rows" of 0 and 1 for each class. "auto": rows where
            they are bool, or have num_classes > 1 columns; else indices.
        keep: Names of floating-point entries of a dict that are no features and stay as they are, such as an image's
            scale.
    """

    framework = JAX
    channel_dim = -1
