"""A mixer's history, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from sys import intern
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import MixPlan

KEPT: Final = 10_000
"""How many records a history keeps, the last ones; about 1 MB."""


class MixRecord(NamedTuple):
    """One forward that was to be mixed.

    Attributes:
        step: Number of its plan.
        method: The method that decided, by its class's name, such as "PatchUp".
        layer: Where it mixed: "input", a layer's name, or None for a clean step.
        lam: Share of the original sample under the mask, as in the plan; the batch's mean where it is
            drawn per sample or pair. 0.0 for CutMix and hard PatchUp, 1.0 for a clean step.
        s: Share of the partner that the label got; the batch's mean. Under a mask, less than `1 - lam`. With
            share="tokens" it is the features' share: counting tokens would wait for the device.
    """

    step: int
    method: str
    layer: str | None
    lam: float
    s: float


class History:
    """The history of a mixer's forwards: the last 10,000 as records, all of them as counts.

    `len(history)` and iteration are of the records, oldest first. What was not to be mixed (eval, no_grad, a
    call without a target) is not counted, nor what is recomputed in backward, nor what failed. Nothing here
    holds a tensor or waits for a device.

    Attributes:
        counts: Layer -> how many forwards mixed there, over the whole run; None counts the clean ones.
    """

    def __init__(self) -> None:
        self.counts: dict[str | None, int] = {}
        self._records: deque[tuple[int, str, str | None, float, float]] = deque(maxlen=KEPT)
        self._lam = self._s = 0.0

    def _add(self, plan: MixPlan, s: Lam) -> None:
        """Count a forward that is over. For mixers."""
        layer, lam = plan.place, plan.lam
        share = s if isinstance(s, float) else _mean(s)
        if not isinstance(lam, float):
            lam = _mean(lam)
        self.counts[layer] = self.counts.get(layer, 0) + 1
        if layer is not None:
            self._lam += lam
            self._s += share
        self._records.append((plan.step, intern(plan.method.partition("(")[0]), layer, lam, share))

    @property
    def steps(self) -> int:
        """Forwards in the whole run, clean ones included."""
        return sum(self.counts.values())

    @property
    def mixed(self) -> int:
        """Forwards of the whole run in which something was mixed."""
        return self.steps - self.counts.get(None, 0)

    @property
    def mean_lam(self) -> float:
        """Mean lam of the run's mixed forwards; nan if there is none."""
        return self._lam / self.mixed if self.mixed else float("nan")

    @property
    def mean_s(self) -> float:
        """Mean share of the partner in the run's mixed forwards; nan if there is none."""
        return self._s / self.mixed if self.mixed else float("nan")

    @property
    def last(self) -> MixRecord | None:
        """The last record."""
        return MixRecord._make(self._records[-1]) if self._records else None

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[MixRecord]:
        return map(MixRecord._make, self._records)

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The records as columns, each (len(history),): step int64, method and layer str, lam and s float64.

        A clean step's layer is "".
        """
        columns = [*zip(*self._records, strict=True)] or [()] * len(MixRecord._fields)
        step, method, layer, lam, s = columns
        return {
            "step": np.array(step, np.int64),
            "method": np.array(method, np.str_),
            "layer": np.array([name or "" for name in layer], np.str_),
            "lam": np.array(lam, np.float64),
            "s": np.array(s, np.float64),
        }

    def to_dict(self) -> dict[str, Any]:
        """The whole run's numbers and the records, as JSON can hold them; a mean of nothing is None."""
        return {
            "steps": self.steps,
            "mixed": self.mixed,
            "clean": self.steps - self.mixed,
            "layers": {layer: count for layer, count in self.counts.items() if layer is not None},
            "mean_lam": self.mean_lam if self.mixed else None,
            "mean_s": self.mean_s if self.mixed else None,
            "records": [record._asdict() for record in self],
        }

    def __repr__(self) -> str:
        if not self.counts:
            return "History(nothing yet)"
        told = sorted(((layer or "clean", count) for layer, count in self.counts.items()), key=_most_first)
        where = ", ".join(f"{layer} {count}" for layer, count in told)
        means = f"; mean lam {self.mean_lam:.3f}, mean s {self.mean_s:.3f}" if self.mixed else ""
        return f"History({self.steps} steps: {where}{means})"


def _mean(values: npt.NDArray[np.float32]) -> float:
    return float(values.dot(_even(len(values))))  # in a third of the time of values.mean()


@lru_cache(maxsize=8)
def _even(size: int) -> npt.NDArray[np.float32]:
    return np.full(size, 1.0 / size, np.float32)


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]
