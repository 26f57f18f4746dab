"""IEBN's passes in Triton, on a GPU; where Triton is not installed, nothing is lost but time."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from mixlayers._core.iebn import Parameters
from mixlayers_torch._iebn.given import HALF, Statistics
from mixlayers_torch._iebn.join import joint_moments, let_in
from mixlayers_torch._iebn.plain import plain

TILE = 1024
"""Elements that one program works on at a time."""

ENOUGH = 1024
"""Programs that keep a GPU busy: where samples and channels make fewer, space is cut in parts."""


@cache
def kernels() -> Any:
    """The kernels, or None; MIXLAYERS_TRITON=0 in the environment turns them off."""
    if os.environ.get("MIXLAYERS_TRITON", "1") == "0":
        return None
    try:
        return importlib.import_module("mixlayers_torch._iebn.gpu_kernels")
    except ImportError:  # no Triton
        return None


def takes(x: Tensor, parameters: Parameters, statistics: Statistics) -> bool:
    """Whether there are kernels for x and all that belongs to it."""
    kinds, vectors = (torch.float32, *HALF), (*parameters, statistics.mean, statistics.var)
    return (
        on_gpu(x)
        and x.dtype in kinds
        and kernels() is not None
        and all(
            t is None or (t.dtype in kinds and t.device == x.device and t.is_contiguous()) for t in vectors
        )
    )


def on_gpu(x: Tensor) -> bool:
    """Whether the kernels are known to compile for the device; also one of AMD's is "cuda" to PyTorch."""
    return x.is_cuda and _new_enough(x.device.index)


@cache
def _new_enough(device: int) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


@dataclass(frozen=True)
class _Tiles:
    """How the work on x is cut; see `gpu_kernels`."""

    shape: tuple[int, int, int]
    steps: tuple[int, int]
    block_c: int
    block_l: int
    parts: int

    @classmethod
    def of(cls, x: Tensor) -> _Tiles:
        size, channels, length = x.shape[0], x.shape[1], prod(x.shape[2:])
        if length == 1 or not x.is_contiguous():  # rows: the channels lie side by side
            block_l = min(16, _power(length))
            block_c = min(TILE // block_l, _power(channels))
            steps = 1, channels
        else:
            block_l = min(TILE, _power(length))
            block_c = min(TILE // block_l, _power(channels))
            steps = length, 1
        programs = max(1, size * -(-channels // block_c))
        parts = min(-(-length // block_l), max(1, ENOUGH // programs))
        return cls((size, channels, length), steps, block_c, block_l, parts)

    def over(self, last: int) -> tuple[int, int, int]:
        """Programs for samples, channels, and something else."""
        return self.shape[0], -(-self.shape[1] // self.block_c), last

    @property
    def maps(self) -> tuple[int, int, int]:
        """Programs for all of x, each one tile."""
        return self.over(-(-self.shape[2] // self.block_l))


class Gpu:
    """`Passes`."""

    given: ClassVar[Any] = Parameters
    plain: ClassVar[Any] = staticmethod(plain)

    def __init__(self, x: Tensor, y: Tensor, parameters: Parameters, statistics: Statistics) -> None:
        self.tiles, self.batch, self.eps = _Tiles.of(x), statistics.batch, statistics.eps
        self.group, self.divisor = statistics.group, x.numel() / x.shape[1]
        with torch.cuda.device_of(x):
            self._forward(x, y, parameters, statistics)

    def _forward(self, x: Tensor, y: Tensor, parameters: Parameters, statistics: Statistics) -> None:
        size, channels, length = self.tiles.shape
        kept: Any = statistics
        if not self.batch:
            self.about = kept.mean.float()
        elif size == 0:
            self.about = x.new_zeros(channels, dtype=torch.float32)
        else:  # the first sample's: near enough to the batch's for squares about it not to cancel
            self.about = (
                x[0].mean(tuple(range(1, x.ndim - 1)), dtype=torch.float32) if x.ndim > 2 else x[0].float()
            )
        sums = self._sums(x, None)
        self.off = torch.zeros_like(self.about)
        if not self.batch:
            self.rstd = torch.rsqrt(kept.var.float() + self.eps)
        elif self.group is not None:
            self._settle_jointly(sums, statistics)
        else:
            self._settle(sums, statistics)
        self.gap = self.about.new_empty(size, channels)
        weight, bias, *attention = parameters
        _launch(
            *("map", self.tiles.maps, x, y, sums[0], self.gap, self.about, self.off, self.rstd),
            *(_or(weight, self.off), _or(bias, self.off), *attention),
            *(self.tiles.parts, channels, length, *self.tiles.steps),
            *(weight is not None, bias is not None, self.tiles.block_c, self.tiles.block_l),
        )

    def _sums(self, x: Tensor, g: Tensor | None) -> Tensor:
        """The parts' sums, (2, parts, N, C)."""
        tiles, (size, channels, length) = self.tiles, self.tiles.shape
        sums = self.about.new_empty(2, tiles.parts, size, channels)
        of = "products" if g is not None else "squares" if self.batch else "means"
        blocks = tiles.block_c, tiles.block_l
        given = x, _or(g, x), self.about, sums[0], sums[1]
        _launch("add", tiles.over(tiles.parts), *given, channels, length, *tiles.steps, of, *blocks)
        return sums

    def _settle(self, sums: Tensor, statistics: Statistics) -> None:
        size, channels, _ = self.tiles.shape
        self.rstd = torch.empty_like(self.off)
        count, kept = self.divisor, statistics.mean is not None
        running = _or(statistics.mean, self.off), _or(statistics.var, self.off)
        shares = count / max(count - 1, 1), self.eps, statistics.factor
        _launch(
            *("settle", (-(-channels // 16),), sums[0], sums[1], self.about, self.off, self.rstd, *running),
            *(self.tiles.parts * size, channels, count, *shares, kept, 16, 64),
        )

    def _settle_jointly(self, sums: Tensor, statistics: Statistics) -> None:
        """The same, with other processes. How many values there are stays on the GPU, which would have to stop."""
        count = self.divisor
        left, squares = sums.sum((1, 2), dtype=torch.float64)
        mean = self.about + left / max(count, 1)
        squares = squares - left * left / max(count, 1)
        own = torch.cat((mean, squares, mean.new_tensor([count])))
        mean, squares, whole = joint_moments(own, self.group)
        let_in(statistics, mean, squares, whole)
        self.off = (mean - self.about).float()
        self.whole = whole.clamp(min=1)
        self.rstd = torch.rsqrt(squares / self.whole + self.eps).float()

    def backward(
        self, x: Tensor, g: Tensor, dx: Tensor | None, parameters: Parameters, learned: Parameters
    ) -> None:
        size, channels, length = self.tiles.shape
        weight, _, *attention = parameters
        with torch.cuda.device_of(x):
            sums, batch = self._sums(x, g), torch.empty(2, channels, device=x.device)
            own = _or(weight, self.off), *attention
            _launch(
                *("learn", (-(-channels // 16),), sums[0], sums[1], self.gap, self.off, self.rstd, *own),
                *(*learned, batch[0], batch[1], self.tiles.parts, size, channels, size * channels),
                *(weight is not None, 16, 32),
            )
            if dx is None:
                return
            divisor = self.divisor
            if self.batch and self.group is not None:
                joint = batch.double()
                dist.all_reduce(joint, group=self.group)
                batch, divisor = (joint / self.whole).float(), 1.0
            _launch(
                *("combine", self.tiles.maps, x, g, dx, sums[0], sums[1], self.gap, self.about, self.off),
                *(self.rstd, *own, batch[0], batch[1]),
                *(divisor, self.tiles.parts, channels, length, *self.tiles.steps),
                *(self.batch, weight is not None, self.tiles.block_c, self.tiles.block_l),
            )

    def normalisers(self) -> tuple[Tensor, Tensor]:
        return self.about + self.off, self.rstd**-2.0 - self.eps

    @classmethod
    def infer(cls, x: Tensor, y: Tensor, parameters: Parameters, statistics: Statistics) -> None:
        cls(x, y, parameters, statistics)


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << max(0, number - 1).bit_length()


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A tensor, or another whose address is not read."""
    return other if tensor is None else tensor


def _launch(name: str, grid: tuple[int, ...], *arguments: Any) -> None:
    if all(grid):
        getattr(kernels(), name)[grid](*arguments)
