"""Labels brought to the shape of a model's output, and which of them count."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mixlayers._core.labels.labels import check_bits, check_range, check_tensor, without_column
from mixlayers._core.labels.target import MixedTarget

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework


class Counted(NamedTuple):
    """Labels, and which count.

    Attributes:
        values: The labels.
        valid: float32, 1 where a label counts and 0 where it is ignored; of the same shape.
    """

    values: Any
    valid: Any


def classes_second(framework: Framework, output: Any, target: Any, axis: int) -> tuple[Any, Any]:
    """A model's output, and labels of its shape, with the classes as the second axis, where losses and metrics look.

    Args:
        framework: Whose tensors they are.
        output: (N,), (N, K), or (N, ..., K), or (N, K, ...) already.
        target: Mixed, or plain labels.
        axis: Where the output has its classes: -1, or 1.
    """
    if output.ndim < 3 or axis == 1:
        return output, target
    shape = tuple(output.shape)

    def moved(y: Any) -> Any:
        fits = framework.is_tensor(y) and tuple(y.shape) == shape
        return framework.move_axis(y, axis, 1) if fits else y

    if isinstance(target, MixedTarget):
        target = copy.copy(target)
        target._y, target._partner = moved(target._y), moved(target._partner)
    else:
        target = moved(target)
    return framework.move_axis(output, axis, 1), target


def class_labels(framework: Framework, y: Any, output: Sequence[int], ignored: int) -> Any:
    """Class indices (N, *space) for an output (N, K, *space).

    Raises:
        ValueError: If they have another shape, or hold a class that there is not.
    """
    check_tensor(framework, y)
    space = (output[0], *output[2:])
    if len(output) == 2:
        y = without_column(y)
    if tuple(y.shape) != space or framework.is_bool(y):
        raise ValueError(
            f"an output of shape {tuple(output)} takes class indices of shape {space}, or probabilities of its own "
            f"shape, got {'bool' if framework.is_bool(y) else 'whole numbers'} of shape {tuple(y.shape)}: for "
            "several labels a sample use binary_cross_entropy; probabilities must be floating-point."
        )
    check_range(framework, y, output[1], ignored)
    return y


def check_soft(y: Any, output: Sequence[int]) -> None:
    """Raise unless probabilities have the output's shape."""
    if tuple(y.shape) != tuple(output):
        raise ValueError(
            f"floating-point labels are probabilities, of the output's shape {tuple(output)}, got {tuple(y.shape)}: "
            "class indices must be whole numbers; for regression use mixer.loss or target.blend with your loss."
        )


def is_binary(framework: Framework, y: Any, output: Sequence[int]) -> bool:
    """Whether labels are 0 or 1 (or between) for each number of an output, and no class indices."""
    shape = tuple(y.shape)
    one = len(output) > 1 and output[1] == 1
    return shape == tuple(output) or len(output) == 1 or one or framework.is_float(y)


def binary_labels(framework: Framework, y: Any, output: Sequence[int], ignored: int) -> Counted:
    """Labels as numbers in [0, 1] of the shape of an output, (N,), (N, K) or (N, K, *space), float32.

    Class indices become one-hot rows. With one logit a sample, labels are 0 or 1.

    Raises:
        ValueError: If the labels fit no such output, or hold a number that there is not.
    """
    check_tensor(framework, y)
    y, output = framework.label(y), tuple(output)
    if is_binary(framework, y, output):
        shape = tuple(y.shape)
        alone = output[0], *output[2:]
        if shape != output and not (shape == alone and output[1] == 1) and shape != (output[0], 1):
            raise ValueError(
                f"an output of shape {output} takes labels of that shape, or class indices of shape {alone}, got "
                f"{shape}."
            )
        y = y.reshape(output)
        if framework.is_float(y):
            values = framework.to_float(y)
            return Counted(values, values * 0.0 + 1.0)
        check_bits(framework, y, ignored)
        valid = framework.to_float(y != ignored)
        return Counted(framework.to_float(y) * valid, valid)
    y = class_labels(framework, y, output, ignored)
    valid = framework.to_float(y != ignored)
    hot = framework.hot(framework.zeroed(y, y != ignored), output[1])
    hot = hot if len(output) == 2 else framework.move_axis(hot, -1, 1)
    some = valid.reshape((valid.shape[0], 1, *valid.shape[1:])) + hot * 0.0
    return Counted(hot * some, some)
