"""What IEBN and RBN normalise with."""

from __future__ import annotations

from dataclasses import dataclass

from mixlayers._core import iebn


@dataclass
class Statistics(iebn.Statistics):
    """What to normalise with.

    Attributes:
        by_mode: Whether it is the layer's mode that says `batch`: a program that is saved for inference leaves it.
    """

    by_mode: bool = True
