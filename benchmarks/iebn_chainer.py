"""Time Chainer's IEBN, training forward and backward, as a ratio to L.BatchNormalization.

    OMP_NUM_THREADS=1 python benchmarks/iebn_chainer.py [--quick] [--out results.json]

The rivals take turns in one process; medians and quartiles of the ratios are shown. `subclass` is what one would write
by hand: L.BatchNormalization's output, scaled by an attention made of Chainer's functions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from parts.timing import interleave, ratio

from mixlayers_chainer._iebn import IEBN  # before Chainer, which it makes importable

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


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description="Time Chainer's IEBN.")
    parser.add_argument("--quick", action="store_true", help="the smallest shape, few rounds")
    parser.add_argument("--out", type=Path, help="write the results there as JSON")
    options = parser.parse_args()
    rng, before, rows = np.random.default_rng(0), os.getloadavg(), []
    print(f"| shape | BatchNormalization ms | IEBN, at most {LIMIT} | subclass |\n|---|---|---|---|")
    for shape in SHAPES[-1:] if options.quick else SHAPES:
        work = {name: step(kind(shape[1]), shape, rng) for name, kind in KINDS.items()}
        times = interleave(work, 5 if options.quick else 15, 1 if np.prod(shape) > 2**20 else 10)
        base = times.pop("BatchNormalization")
        ratios = {name: ratio(each, base) for name, each in times.items()}
        milliseconds = 1e3 * float(np.median(base))
        rows.append({"shape": shape, "batchnormalization_ms": milliseconds, "ratios": ratios})
        print(f"| {shape} | {milliseconds:.1f} | {ratios['IEBN']} | {ratios['subclass']} |", flush=True)
    facts: dict[str, Any] = {
        "chainer": chainer.__version__,
        "numpy": np.__version__,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": before,
        "load_after": os.getloadavg(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "limit": LIMIT,
    }
    print(json.dumps(facts))
    if options.out is not None:
        plain = [row | {"ratios": {name: vars(each) for name, each in row["ratios"].items()}} for row in rows]
        options.out.write_text(json.dumps(facts | {"rows": plain}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
