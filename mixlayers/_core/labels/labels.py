"""The meaning of labels, decided in one place for every framework, loss and metric.

| dtype and shape | what it is |
|---|---|
| whole numbers (N,), (N, *space) or (N, 1) | class indices |
| whole numbers (N, K), K > 1 the number of classes | several labels a sample, 0 or 1 each ("rows") |
| bool (N, K) | the same; never indices |
| floating-point (N, K) | probabilities, or several labels in [0, 1] |
| floating-point (N,), or other columns | numbers to be regressed on: no classes |

Whole numbers (N, K) may also be indices at K places; `labels="indices"` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework

Labels = Literal["auto", "indices", "rows"]
"""What whole numbers are: class indices, rows of 0 and 1, or as the table above says."""


def check_meaning(labels: Labels) -> None:
    """Raise unless it is one of `Labels`."""
    if labels not in get_args(Labels):
        raise ValueError(
            f"labels must be one of {', '.join(map(repr, get_args(Labels)))}, got {labels!r}: what whole numbers mean."
        )


def one_hot(
    framework: Framework, y: Any, num_classes: int, labels: Labels = "auto", smoothing: float = 0.0
) -> Any:
    """Labels as probabilities or rows, (..., num_classes); floating-point ones as they are. All may be smoothed.

    Class indices that do not count (the framework's own number for them) give rows of zeros, smoothed or not.

    Raises:
        ValueError: If they have other columns, or hold a class or a number that there is not.
        TypeError: If they are not a tensor.
    """
    check_meaning(labels)
    check_tensor(framework, y)
    if framework.is_float(y):
        check_columns(y, num_classes)
        return _smoothed(y, smoothing)
    if is_rows(framework, y, num_classes, labels):
        check_columns(y, num_classes)
        check_bits(framework, y)
        return _smoothed(framework.to_float(y), smoothing)
    y = framework.label(without_column(y))
    ignored = framework.ignored
    check_range(framework, y, num_classes, ignored)
    if ignored is None:
        return _smoothed(framework.hot(y, num_classes), smoothing)
    counts = y != ignored
    hot = _smoothed(framework.hot(framework.zeroed(y, counts), num_classes), smoothing)
    return hot * framework.to_float(counts).reshape((*y.shape, 1))


def _smoothed(rows: Any, smoothing: float) -> Any:
    return rows * (1.0 - smoothing) + smoothing / rows.shape[-1] if smoothing else rows


def is_rows(framework: Framework, y: Any, num_classes: int, labels: Labels = "auto") -> bool:
    """Whether labels that are no floating-point numbers are 0 or 1 for each class."""
    if framework.is_bool(y):
        if labels == "indices":
            raise ValueError("bool labels are 0 or 1 for each class, got labels='indices': leave it out.")
        return True
    if labels != "auto":
        return labels == "rows"
    return y.ndim > 1 and num_classes > 1 and tuple(y.shape)[-1] == num_classes


def without_column(y: Any) -> Any:
    """Class indices (N, 1), as Paddle's data sets and losses have them, as (N,)."""
    return y.reshape((-1,)) if y.ndim == 2 and y.shape[1] == 1 else y


def check_tensor(framework: Framework, y: Any) -> None:
    """Raise if a loss or metric is given several labels at once."""
    if not framework.is_tensor(y):
        raise TypeError(
            f"a loss or metric takes one tensor of labels, got {type(y).__name__}: for several heads use "
            'target.blend(lambda y: loss(output_a, y["a"]) + loss(output_b, y["b"])).'
        )


def check_columns(y: Any, num_classes: int) -> None:
    """Raise unless soft targets have a column for each class."""
    if y.ndim < 2 or y.shape[-1] != num_classes:
        raise ValueError(
            f"soft targets must have num_classes={num_classes} columns, got shape {tuple(y.shape)}"
            + (
                ": class indices must be whole numbers; for regression use target.blend."
                if y.ndim < 2
                else "."
            )
        )


def check_bits(framework: Framework, y: Any, ignored: int | None = None) -> None:
    """Raise if several labels a sample hold anything but 0 and 1. Where the host would wait for it, nothing is read."""
    if framework.is_bool(y) or not framework.checks(y):
        return
    values = framework.to_numpy(y)
    wrong = values[(values != 0) & (values != 1) & (values != ignored)]
    if wrong.size:
        raise ValueError(
            f"whole numbers of shape {tuple(y.shape)} are taken for several labels a sample, 0 or 1 each, and hold "
            f'{wrong.flat[0]}: pass labels="indices" where they are class indices, or class indices (N,) to a loss.'
        )


def check_range(framework: Framework, y: Any, num_classes: int, ignored: int | None = None) -> None:
    """Raise if class indices hold a class that there is not. Where the host would wait for it, nothing is read."""
    if not framework.checks(y):
        return
    values = framework.to_numpy(y)
    wrong = values[((values < 0) | (values >= num_classes)) & (values != ignored)]
    if wrong.size:
        way_out = (
            "labels that do not count have no probabilities: use cross_entropy or target.blend"
            if ignored is None and wrong.flat[0] < 0
            else "number the classes from 0"
            if ignored is None
            else f"number the classes from 0, or give a label that does not count as ignore_index, {ignored} now"
        )
        raise ValueError(
            f"class indices must be in [0, {num_classes}), got {wrong.flat[0]} in labels of shape {tuple(y.shape)}: "
            f"{way_out}."
        )


def classes_of(y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Labels on the host as one class for each sample, for pairs: (N,).

    Soft labels count as their largest class; samples with the same whole row of several labels are of one class.
    """
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iub":
        return np.unique(y, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if y.ndim == 2:
        y = y.argmax(1) if y.dtype.kind == "f" and y.shape[1] > 1 else y[:, 0]
    return y.astype(np.int64)
