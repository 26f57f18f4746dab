"""The label side of a binary loss: numbers in [0, 1] for each logit, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mixlayers._core.labels.outputs import binary_labels
from mixlayers._core.labels.reduce import blended, counted
from mixlayers._core.labels.target import MixedTarget

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework


def binary_points(
    framework: Framework,
    target: Any,
    output: Sequence[int],
    smoothing: float,
    threshold: float | None,
    ignored: int,
) -> tuple[Any, Any, float]:
    """A mixed or plain target as labels in [0, 1], how much each counts in [0, 1], and the loss's factor.

    Both have the output's shape and are float32. Where one side of a blend is ignored, the label is the other side's,
    and counts by its share.

    Raises:
        ValueError: If the labels fit no such output; if smoothing or threshold is out of its range.
    """
    if threshold is not None and not 0.0 <= threshold < 1.0:
        raise ValueError(
            f"target_threshold must be in [0, 1), got {threshold}: None keeps the labels' shares, as mixed."
        )
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be in [0, 1), got {smoothing}.")
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    output = tuple(output)
    points = max(len(output) - 2, 0)

    def both(part: int) -> Any:
        def each(y: Any) -> Any:
            found = binary_labels(framework, y, output, ignored)[part]
            return framework.move_axis(found, 1, -1) if points else found

        values = framework.label((counted if part else blended)(framework, mixed, each, points))
        return framework.move_axis(values, -1, 1) if points else values

    labels, share = both(0), both(1)
    labels = labels / (share + framework.to_float(share == 0.0))
    if smoothing:
        evenly = 1 / 2 if len(output) < 2 or output[1] == 1 else 1 / output[1]
        labels = labels * (1.0 - smoothing) + smoothing * evenly
    return (
        labels if threshold is None else framework.to_float(labels > threshold),
        share,
        mixed.loss_scale,
    )
