"""Time Chainer's IEBN, training forward and backward, as a ratio to L.BatchNormalization.

    OMP_NUM_THREADS=1 python benchmarks/iebn_chainer.py [--quick] [--out results.json]

The rivals take turns in one process; medians and quartiles of the ratios are shown. `subclass` is what one would write
by hand: L.BatchNormalization's output, scaled by an attention made of Chainer's functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from parts.report import main
from parts.timing import TINY, Row, Scale, Spread, interleave, ratio

from mixlayers_chainer._iebn.layer import IEBN  # before Chainer, which it makes importable

import chainer  # isort: skip
import chainer.functions as F  # isort: skip
import chainer.links as L  # isort: skip

SHAPES = [(128, 64, 32, 32), (64, 256, 16, 16), (32, 64, 56, 56), (256, 512, 4, 4), (100, 64, 8, 8)]
LIMIT = 1.5


class Subclass(L.BatchNormalization):
    """y = a * BN(x) + (1 - a) * beta, step by step."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        with self.init_scope():
            self.weight_readjust = chainer.Parameter(0, channels)
            self.bias_readjust = chainer.Parameter(-1, channels)

    def forward(self, x: Any) -> Any:
        gap = F.mean(x, (2, 3))
        a = F.sigmoid(F.scale(gap, self.weight_readjust) + F.broadcast_to(self.bias_readjust, gap.shape))
        y = F.scale(super().forward(x), a, axis=0)
        return F.bias(y, (1 - a) * F.broadcast_to(self.beta, gap.shape), axis=0)


KINDS: dict[str, Callable[[int], chainer.Link]] = {
    "BatchNormalization": L.BatchNormalization,
    "IEBN": IEBN,
    "subclass": Subclass,
}


def step(norm: chainer.Link, shape: tuple[int, ...], rng: np.random.Generator) -> Callable[[], None]:
    """A forward and a backward, with respect to everything."""
    x = chainer.Variable(rng.standard_normal(shape, dtype=np.float32))
    gradient = rng.standard_normal(shape, dtype=np.float32)

    def run() -> None:
        x.cleargrad()
        norm.cleargrads()
        y = norm(x)
        y.grad = gradient
        y.backward()

    return run


def training_rows(scale: Scale) -> Iterator[Row]:
    """Forward and backward in training; where --quick, the smallest shape."""
    rng = np.random.default_rng(0)
    for shape in [(4, 4, 8, 8)] if scale is TINY else SHAPES if scale.more else SHAPES[-1:]:
        work = {name: step(kind(shape[1]), shape, rng) for name, kind in KINDS.items()}
        times = interleave(work, scale.rounds, 1 if np.prod(shape) > 2**20 else 10)
        base, what = times.pop("BatchNormalization"), "x".join(map(str, shape))
        yield Row("BatchNormalization", what, "ms", Spread.of([1e3 * one for one in base]))
        ours, rival = (ratio(times[name], base) for name in ("IEBN", "subclass"))
        yield Row("IEBN", what, "x BatchNormalization", ours, {"subclass": rival}, LIMIT)


if __name__ == "__main__":
    main({"train": training_rows}, ("chainer", "numpy"))
