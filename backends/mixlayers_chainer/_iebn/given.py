"""What IEBN and RBN normalise with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixlayers._core import iebn


@dataclass
class Statistics(iebn.Statistics):
    """What to normalise with: arrays of the parameters' shape.

    Attributes:
        axis: What is normalised over: 0, and the space.
        comm: A ChainerMN communicator whose ranks' batches are taken together; None: this process alone.
    """

    axis: tuple[int, ...]
    comm: Any = None
