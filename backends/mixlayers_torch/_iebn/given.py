"""What IEBN and RBN normalise with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixlayers._core import iebn

HALF = (torch.bfloat16, torch.float16)


@dataclass
class Statistics(iebn.Statistics):
    """What to normalise with.

    Attributes:
        group: The processes whose batches are taken together; None: this process alone.
    """

    mean: Tensor | None
    var: Tensor | None
    group: Any = None

    def update(self, mean: Tensor, var: Tensor) -> None:
        """Let a batch's mean and unbiased variance into the running statistics."""
        if self.mean is not None and self.var is not None:
            self.mean.lerp_(mean.to(self.mean.dtype), self.factor)
            self.var.lerp_(var.to(self.var.dtype), self.factor)
