"""Time what each method does to a batch, forward and backward, as a multiple of Mixup's.

    python benchmarks/methods.py [--tiny]

One line a method: the median of the ratios, with their quartiles; Mixup takes its turn after each. PyTorch, on the CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

import mixlayers
from mixlayers import (
    DSU,
    AlignMixup,
    CutMix,
    FMix,
    GMix,
    HMix,
    Method,
    MixStyle,
    Mixup,
    MoEx,
    NoisyFeatureMixup,
    PAdaIN,
    Remix,
    ResizeMix,
    SpecMix,
)
from mixlayers._core.batch.carry import carry_out
from mixlayers_torch._framework import TORCH

AT_THE_LAST_MAP = [AlignMixup(), AlignMixup(rounds=20)]
"""Measured on (64, 128, 4, 4), as hidden layers are before the pooling."""

METHODS: list[Method] = [
    CutMix(),
    CutMix(axes=(-1,)),
    FMix(),
    FMix(max_soft=0.2),
    HMix(),
    GMix(),
    ResizeMix(),
    SpecMix(),
    Remix(Mixup(), (100, 10, 1)),
    NoisyFeatureMixup(),
    MixStyle(prob=1.0),
    DSU(prob=1.0),
    PAdaIN(prob=1.0),
    MoEx(),
    MoEx(over="space"),
]


def run(method: Method, x: Tensor, y: Tensor, upstream: Tensor, step: int) -> float:
    """Seconds of one mixed feature, as a hidden layer's, and its gradient."""
    start = time.perf_counter()
    plan = method.plan(step=step, batch_size=len(x), places=("layer",), labels=y.numpy())
    mixed = carry_out(TORCH, x, plan.blend(tuple(x.shape)), TORCH.partners(plan.perm))
    mixed.backward(upstream)
    taken = time.perf_counter() - start
    x.grad = None
    return taken


def ratios(method: Method, shape: tuple[int, ...], rounds: int) -> list[float]:
    """How many times as long as Mixup it takes, round by round."""
    x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    y = torch.arange(shape[0]) % 3
    turn: Callable[[Method, int], float] = lambda method, step: run(method, x, y, upstream, step)  # noqa: E731
    for step in range(3):
        turn(method, step), turn(Mixup(), step)
    return [turn(method, step) / turn(Mixup(), step) for step in range(rounds)]


def main() -> None:
    """Print a table."""
    tiny = "--tiny" in sys.argv
    shape, rounds = ((4, 4, 8, 8), 3) if tiny else ((64, 64, 32, 32), 60)
    torch.set_num_threads(1)
    print(
        f"mixlayers {mixlayers.__version__}, torch {torch.__version__}, one thread, {'x'.join(map(str, shape))}"
    )
    print("method | times Mixup's [quartiles]")
    for method in (*METHODS, *AT_THE_LAST_MAP):
        own = (shape[0], 2 * shape[1], 4, 4) if method in AT_THE_LAST_MAP else shape
        low, middle, high = statistics.quantiles(ratios(method, own, rounds), n=4)
        print(f"{method} | {middle:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
