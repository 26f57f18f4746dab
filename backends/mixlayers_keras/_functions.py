"""Losses, metrics and the mixing of a batch, on what Keras' backend calculates with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from mixlayers import Method, MixedTarget
from mixlayers._core.batch.detection import MixedBoxes
from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.documents import add_arguments
from mixlayers._core.labels.outputs import classes_second
from mixlayers_keras._collate import channel_dim as default_channel_dim
from mixlayers_keras._engine import ENGINE

IGNORED = ENGINE.framework.ignored or -100
"""The number of labels that do not count, by default."""

_batch = BatchFunctions[Any, Any](ENGINE.framework, IGNORED)
calibration_error, temperature = _batch.calibration_error, _batch.temperature


def mix(
    x: Any,
    target: Any,
    method: Method,
    *,
    step: int | None = None,
    seed: int = 0,
    rank: int = 0,
    channel_dim: int | None = None,
    keep: Collection[str] = (),
) -> tuple[Any, MixedTarget]:
    """Mix an input batch and its target, for a training loop of your own; no model needed.

    Args:
        x: Floating-point array (N, ...), NumPy's or the backend's, or a tuple, list or dict holding some.
        channel_dim: 1 or -1, where a masked feature's channels are, the batch axis being first; None: as
            `keras.config.image_data_format()` says.
    """
    mixed, made = _batch.mix(
        ENGINE.inside(x),
        ENGINE.tensors(target),
        method,
        step=step,
        seed=seed,
        rank=rank,
        channel_dim=default_channel_dim() if channel_dim is None else channel_dim,
        keep=keep,
    )
    return ENGINE.outside(mixed, made)


add_arguments(mix, BatchFunctions.mix)


def mix_detection(
    images: Any,
    boxes: Sequence[Any],
    labels: Sequence[Any],
    method: Method,
    *,
    channel_dim: int | None = None,
    **options: Any,
) -> tuple[Any, list[MixedBoxes]]:
    """Mixup or CutMix of images with boxes: each image keeps its own boxes and gets its partner's.

    As `mixlayers.jax.mix_detection` and `mixlayers.torch.mix_detection`, which say what becomes of the boxes.

    Args:
        images: (N, H, W, C), or (N, C, H, W), of floats, NumPy's or the backend's; boxes and labels likewise.
        channel_dim: 1 or -1, where the images have their channels; None: as `keras.config.image_data_format()` says.
    """
    where = default_channel_dim() if channel_dim is None else channel_dim
    images, boxes, labels = (ENGINE.tensors(each) for each in (images, list(boxes), list(labels)))
    return _batch.mix_detection(images, boxes, labels, method, channel_dim=where, **options)


add_arguments(mix_detection, BatchFunctions.mix_detection)


def cross_entropy(
    output: Any,
    target: MixedTarget | Any,
    label_smoothing: float = 0.0,
    weight: Any = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
    axis: int = -1,
) -> Any:
    """Softmax cross-entropy of logits, for mixed or plain targets; summed in float32.

    Args:
        output: Logits, (N, K) or (N, ..., K): of a last layer without activation.
        target: A mixed target, class indices (N, ...), or probabilities with the classes where the output has them.
        label_smoothing: Epsilon in [0, 1].
        weight: Of each class, (K,).
        ignore_index: Labels of this number do not count.
        reduction: "mean" over what counts, by its weights; "sum"; or "none", one value for each label.
        axis: Where the output has its classes: -1, or 1.
    """
    output, target = classes_second(ENGINE.framework, output, target, axis)
    return ENGINE.cross_entropy(output, target, label_smoothing, weight, ignore_index, reduction)


def binary_cross_entropy(
    output: Any,
    target: MixedTarget | Any,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum", "none"] = "mean",
    axis: int = -1,
) -> Any:
    """Binary cross-entropy of logits, by default the mean over samples and classes, for mixed or plain targets.

    Args:
        output: Logits, (N,), (N, K) or (N, ..., K).
        target: A mixed target, class indices (N, ...), or labels of the output's shape: whole numbers 0 and 1, bool,
            or floating-point ones in [0, 1].
        label_smoothing: Epsilon in [0, 1), spread evenly over the K classes: for one class a sample.
        target_threshold: A mixed label above it counts as 1, any other as 0; None: the labels' shares.
        ignore_index: Whole-number labels of this number do not count.
        reduction: "mean" over what counts, "sum", or "none", one value for each logit.
        axis: Where the output has its classes: -1, or 1.
    """
    output, target = classes_second(ENGINE.framework, output, target, axis)
    loss = ENGINE.binary_cross_entropy(
        output, target, label_smoothing, target_threshold, ignore_index, reduction
    )
    moved = reduction == "none" and len(loss.shape) > 2 and axis == -1
    return ENGINE.framework.move_axis(loss, 1, -1) if moved else loss


def accuracy(
    output: Any,
    target: MixedTarget | Any,
    topk: int = 1,
    ignore_index: int = IGNORED,
    axis: int = -1,
) -> Any:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K) or (N, ..., K); or one logit a sample, (N,) or (N, 1), which says 1 above 0.
        ignore_index: Labels of this number do not count.
        axis: Where the output has its classes: -1, or 1.
    """
    output, target = classes_second(ENGINE.framework, output, target, axis)
    return _batch.accuracy(output, target, topk, ignore_index)


add_arguments(accuracy, BatchFunctions.accuracy)
