"""The law of lam, the share of the original sample."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

LamPer = Literal["batch", "pair", "sample"]
"""How many lams a step draws: one, one for every two partners, or one for every sample."""

Lam = float | npt.NDArray[np.float32]
"""A Python float (one for the batch) or float32 of shape (N,). Never np.float64: on NumPy 2 it would
promote float32 features."""


def draw_lam(
    rng: np.random.Generator, alpha: float, perm: npt.NDArray[np.int64], per: LamPer, *, fold: bool = False
) -> Lam:
    """Draw lam ~ Beta(alpha, alpha).

    Args:
        rng: The step's stream.
        alpha: Both parameters of the Beta distribution, > 0. Small: mostly near 0 or 1; 1: uniform; large: near 1/2.
        perm: The partners, (N,); with `per="pair"` they must be mutual, and both get the same lam.
        per: "batch", "pair" or "sample".
        fold: Take the larger one of lam and 1 - lam, so that each sample keeps at least half of itself.
    """
    if per == "batch":
        one = float(rng.beta(alpha, alpha))
        return max(one, 1.0 - one) if fold else one
    lam = rng.beta(alpha, alpha, size=len(perm)).astype(np.float32)
    lam = np.maximum(lam, 1 - lam) if fold else lam
    return lam if per == "sample" else lam[np.minimum(np.arange(len(perm)), perm)]
