"""What IEBN and RBN are given beside x: what they learn, and what they normalise with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from mixlayers_chainer._iebn.passes import Array


class Parameters(NamedTuple):
    """What is learned, of the shape of the channels each.

    Attributes:
        gamma, beta: BatchNormalization's.
        weight_readjust, bias_readjust: The attention's.
    """

    gamma: Any
    beta: Any
    weight_readjust: Any
    bias_readjust: Any


class RBNParameters(NamedTuple):
    """What RBN learns, of the shape of the channels each.

    Attributes:
        gamma, beta: BatchNormalization's.
        weight_readjust, bias_readjust: The scale's.
        weight_recenter: The share of its own mean that each instance gets added.
    """

    gamma: Any
    beta: Any
    weight_readjust: Any
    bias_readjust: Any
    weight_recenter: Any


@dataclass
class Statistics:
    """Mean and variance to normalise with.

    Attributes:
        mean, var: Running statistics, of the parameters' shape, updated in place where `batch`; None: none are kept.
        batch: Whether the batch's own statistics are used, as in training, or the running ones.
        decay: Share of the old value in the running statistics.
        eps: Added to the variance.
        axis: What is normalised over: 0, and the space.
        comm: A ChainerMN communicator whose ranks' batches are taken together; None: this process alone.
    """

    mean: Array
    var: Array
    batch: bool
    decay: float
    eps: float
    axis: tuple[int, ...]
    comm: Any = None
