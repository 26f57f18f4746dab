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


def draw_lam(rng: np.random.Generator, alpha: float, perm: npt.NDArray[np.int64], per: LamPer) -> Lam:
    """Draw lam ~ Beta(alpha, alpha).

    Args:
        rng: The step's stream.
        alpha: Both parameters of the Beta law, > 0. Small: mostly near 0 or 1; 1: uniform; large: near 1/2.
        perm: The partners, (N,); with `per="pair"` they must be mutual, and both get the same lam.
        per: "batch", "pair" or "sample".
    """
    if per == "batch":
        return float(rng.beta(alpha, alpha))
    lam = rng.beta(alpha, alpha, size=len(perm)).astype(np.float32)
    return lam if per == "sample" else lam[np.minimum(np.arange(len(perm)), perm)]
