"""Partners from another part of the batch: from its other half, or of another domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mixlayers._core.checks import keep_plain
from mixlayers._core.plan.exchanges import Permutation

Whether = Literal["same", "different"]


@dataclass(frozen=True)
class Halves:
    """Partners from the batch's other half, for batches that are put together of two halves.

    A batch of one domain's samples and then as many of another's mixes across domains so. Sample i meets i + N / 2, or
    with `shuffle` one of that half in random order. The middle one of an odd batch keeps itself.

    Attributes:
        shuffle: Whether each half meets the other in random order.
    """

    shuffle: bool = True

    def __post_init__(self) -> None:
        keep_plain(self)
        if not isinstance(self.shuffle, bool):
            raise TypeError(f"Halves: shuffle must be True or False, got {self.shuffle!r}.")

    def draw(self, rng: np.random.Generator, size: int) -> Permutation:
        """Partners of a batch."""
        half = size // 2
        perm = np.arange(size, dtype=np.int64)
        first, second = perm[:half].copy(), perm[size - half :].copy()
        perm[:half] = rng.permutation(second) if self.shuffle else second
        perm[size - half :] = rng.permutation(first) if self.shuffle else first
        return perm


@dataclass(frozen=True)
class Across:
    """Partners of the same label in another domain, or of another label in the same domain, as LISA pairs them.

    The target is then a dict, `{"label": y, "domain": d}`, of class indices (N,) both; its losses go through
    `target.blend(lambda t: loss(output, t["label"]))`. Whoever has no such partner in the batch keeps itself.

    Yao et al., "Improving Out-of-Distribution Robustness via Selective Augmentation", ICML 2022.

    Attributes:
        domain, label: "same" or "different", one each.
    """

    domain: Whether = "different"
    label: Whether = "same"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value not in get_args(Whether):
                raise ValueError(f"Across: {name} must be 'same' or 'different', got {value!r}.")
        if self.domain == self.label:
            raise ValueError(
                f"Across: domain and label must be one the same and one different, got {self.domain!r} for both: for "
                "labels alone use pairs='same_class' or 'different_class'."
            )
