"""Time Paddle's IEBN2D, training forward and backward, as a ratio to nn.BatchNorm2D.

    OMP_NUM_THREADS=1 python benchmarks/iebn_paddle.py [--quick] [--out results.json]

The rivals take turns in one process; medians and quartiles of the ratios are shown. `fused` is IEBN2D with
`fused = True`, `formula` the default, and `article` the class of article 004 (its arithmetic, as published).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from parts.timing import Spread, interleave, ratio

from mixlayers_paddle._iebn import IEBN2D

SHAPES = [(64, 64, 32, 32), (64, 256, 16, 16), (32, 64, 56, 56), (256, 512, 4, 4), (16, 16, 16, 16)]
LIMIT = 1.5


class Article(nn.BatchNorm2D):
    """Article 004's way: parameters (1, C, 1, 1), a mean over two axes, ones and zeros made at each call."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, weight_attr=False, bias_attr=False)
        shape = [1, channels, 1, 1]
        for name, start in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("weight_readjust", 0.0),
            ("bias_readjust", -1.0),
        ):
            start = nn.initializer.Constant(start)
            setattr(self, name, self.create_parameter(shape, default_initializer=start))

    def forward(self, x: Any) -> Any:
        attention = F.sigmoid(x.mean([2, 3], keepdim=True) * self.weight_readjust + self.bias_readjust)
        one, zero = paddle.ones([x.shape[1]]), paddle.zeros([x.shape[1]])
        xhat = F.batch_norm(x, self._mean, self._variance, one, zero, self.training)
        return xhat * (self.weight * attention) + self.bias


def fused(channels: int) -> nn.Layer:
    norm = IEBN2D(channels)
    norm.fused = True
    return norm


def step(norm: nn.Layer, shape: tuple[int, ...]) -> Callable[[], None]:
    x, gradient = paddle.randn(shape), paddle.randn(shape)
    x.stop_gradient = False

    def run() -> None:
        y = norm(x)
        paddle.autograd.backward([y], [gradient])
        norm.clear_gradients(set_to_zero=False)
        x.clear_grad()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds")
    parser.add_argument("--out", type=Path, help="write the results there as JSON")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "When training, we now always track")
    paddle.set_device("cpu")
    paddle.seed(0)
    kinds = {"BatchNorm2D": nn.BatchNorm2D, "fused": fused, "formula": IEBN2D, "article": Article}
    rows: list[dict[str, Any]] = []
    before = os.getloadavg()
    for shape in SHAPES[-1:] if options.quick else SHAPES:
        work = {name: step(kind(shape[1]), shape) for name, kind in kinds.items()}
        times = interleave(work, 5 if options.quick else 15, 1 if np.prod(shape) > 2**18 else 10)
        row: dict[str, Any] = {"shape": shape, "batchnorm_ms": 1e3 * float(np.median(times["BatchNorm2D"]))}
        row["ratios"] = {
            name: ratio(times[name], times["BatchNorm2D"]) for name in work if name != "BatchNorm2D"
        }
        rows.append(row)
    print("| shape | BatchNorm2D ms | " + " | ".join(rows[0]["ratios"]) + " |")
    print("|---" * (2 + len(rows[0]["ratios"])) + "|")
    for row in rows:
        ratios: dict[str, Spread] = row["ratios"]
        print(
            f"| {row['shape']} | {row['batchnorm_ms']:.2f} | " + " | ".join(map(str, ratios.values())) + " |"
        )
    after = os.getloadavg()
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    print(
        f"load {before[0]:.2f} before, {after[0]:.2f} after; {os.cpu_count()} cores; Paddle {paddle.__version__}; "
        f"malloc {tunables or 'default'}; limit {LIMIT} for tensors of 2**18 elements and more"
    )
    if options.out is not None:
        for row in rows:
            row["ratios"] = {name: vars(spread) for name, spread in row["ratios"].items()}
        facts = {"paddle": paddle.__version__, "machine": platform.platform(), "cores": os.cpu_count()}
        facts |= {
            "load_before": before,
            "load_after": after,
            "glibc_tunables": tunables,
            "limit": LIMIT,
            "rows": rows,
        }
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
