"""What IEBN and RBN are given beside x: what they learn, and what they normalise with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


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


@dataclass
class Statistics:
    """What to normalise with: mean and variance of the batch, of all processes' batches, or of the past.

    Attributes:
        mean, var: Running statistics (C,), updated in place where `batch`; None: there are none.
        batch: Whether the batch's own statistics are used, as in training, or the running ones.
        factor: Share of the new batch in the running statistics.
        eps: Added to the variance.
        group: The processes whose batches are taken together; None: this process alone.
    """

    mean: Tensor | None
    var: Tensor | None
    batch: bool
    factor: float
    eps: float
    group: Any = None

    def update(self, mean: Tensor, var: Tensor) -> None:
        """Let a batch's mean and unbiased variance into the running statistics."""
        if self.mean is not None and self.var is not None:
            self.mean.lerp_(mean.to(self.mean.dtype), self.factor)
            self.var.lerp_(var.to(self.var.dtype), self.factor)
