"""What IEBN and RBN are given beside x: what they learn, and what they normalise with."""

from __future__ import annotations

from typing import NamedTuple

from paddle import Tensor


class Parameters(NamedTuple):
    """What is learned, (C,) each.

    Attributes:
        weight, bias: BatchNorm's; None for 1 and 0.
        weight_readjust, bias_readjust: The attention's.
    """

    weight: Tensor | None
    bias: Tensor | None
    weight_readjust: Tensor
    bias_readjust: Tensor


class RBNParameters(NamedTuple):
    """What RBN learns, (C,) each.

    Attributes:
        weight, bias: BatchNorm's; None for 1 and 0.
        weight_readjust, bias_readjust: The scale's.
        weight_recenter: The share of its own mean that each instance gets added.
    """

    weight: Tensor | None
    bias: Tensor | None
    weight_readjust: Tensor
    bias_readjust: Tensor
    weight_recenter: Tensor


class Statistics(NamedTuple):
    """Mean and variance to normalise with.

    Attributes:
        mean, var: Running statistics (C,), updated in place where `batch`.
        batch: Whether the batch's own statistics are used, as in training, or the running ones.
        momentum: Share of the old value in the running statistics.
        epsilon: Added to the variance.
        by_mode: Whether it is the layer's mode that says `batch`: a program that is saved for inference leaves it.
    """

    mean: Tensor
    var: Tensor
    batch: bool
    momentum: float
    epsilon: float
    by_mode: bool = True
