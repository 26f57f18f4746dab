"""Differences seed by seed: what a method gains over another one that had the same images, weights and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Paired:
    """How two columns of results differ, row by row.

    Attributes:
        mean: Of the differences.
        error: Standard error of the mean: the differences' standard deviation over the root of their number. None
            for a single one.
        wins: In how many rows the first column is better; equal ones are no win.
        rows: How many there are.
    """

    mean: float
    error: float | None
    wins: int
    rows: int

    def text(self, digits: int, factor: float = 1.0) -> str:
        """ "+1.7 ± 0.5, 5 of 5": mean ± standard error, wins."""
        error = "" if self.error is None else f" ± {factor * self.error:.{digits}f}"
        return f"{factor * self.mean:+.{digits}f}{error}, {self.wins} of {self.rows}"


def paired(
    own: Sequence[float] | npt.NDArray[np.floating],
    other: Sequence[float] | npt.NDArray[np.floating],
    *,
    smaller_is_better: bool = False,
) -> Paired:
    """The differences own - other.

    Raises:
        ValueError: If the columns are empty or not equally long.
    """
    if len(own) != len(other) or len(own) == 0:
        raise ValueError(
            f"differences need the same seeds on both sides, got {len(own)} and {len(other)} values: compare runs of "
            "equal seeds."
        )
    gaps = np.asarray(own, dtype=float) - np.asarray(other, dtype=float)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else None
    better = gaps < 0.0 if smaller_is_better else gaps > 0.0
    return Paired(float(gaps.mean()), error, int(better.sum()), len(gaps))
