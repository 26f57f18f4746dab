"""Label shares that are not the features': Remix's, which lets the rarer class have the label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixlayers._core.plan.lam import Lam


@dataclass(frozen=True)
class Lopsided:
    """Remix's rule for the label of each pair, once the features' share is known.

    Attributes:
        rarer: For each sample 1 where its partner's class is so much rarer that the partner may have the whole label,
            -1 where its own is, else 0.
        tau: The share below which the more frequent class loses the label.
    """

    rarer: tuple[int, ...]
    tau: float

    @classmethod
    def of(
        cls, counts: npt.NDArray[np.float64], perm: npt.NDArray[np.int64], k: float, tau: float
    ) -> Lopsided:
        """Compare partners.

        Args:
            counts: How often each sample's class is in the training set, (N,).
            perm: Partners, (N,).
            k: How many times as frequent a class must be.
            tau: The share below which it then loses the label.
        """
        theirs = counts[perm]
        rarer = np.where(counts >= k * theirs, 1, np.where(theirs >= k * counts, -1, 0))
        return cls(tuple(rarer.tolist()), tau)

    def share(self, s: Lam) -> npt.NDArray[np.float32]:
        """The partner's share of the label, (N,), of its share of the features."""
        rarer = np.asarray(self.rarer)
        shares = np.broadcast_to(np.asarray(s, dtype=np.float32), rarer.shape)
        decided = np.where((rarer == 1) & (1.0 - shares < self.tau), 1.0, shares)
        decided = np.where((rarer == -1) & (shares < self.tau), 0.0, decided)
        return decided.astype(np.float32)
