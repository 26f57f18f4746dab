"""IEBN's and RBN's passes in C, on the CPU; where the library is not built, nothing is lost but time."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_native._iebn import Forward, Join, Layout, RBNForward
from mixlayers_native._library import library
from mixlayers_torch._iebn.given import Statistics
from mixlayers_torch._iebn.join import joint_moments
from mixlayers_torch._iebn.passes import Given
from mixlayers_torch._iebn.plain import plain, plain_rbn

KINDS: Final = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}


def takes(x: Tensor, parameters: Given, statistics: Statistics) -> bool:
    """Whether there are passes for x and all that belongs to it."""
    kind = torch.float64 if x.dtype is torch.float64 else torch.float32
    vectors = (*parameters, statistics.mean, statistics.var)
    return (
        x.is_cpu
        and x.dtype in KINDS
        and library() is not None
        and all(t is None or (t.dtype is kind and t.is_cpu and t.is_contiguous()) for t in vectors)
    )


class Native:
    """`Passes`."""

    given: ClassVar[Any] = Parameters
    plain: ClassVar[Any] = staticmethod(plain)
    forward: ClassVar[type[Forward]] = Forward

    def __init__(self, x: Tensor, y: Tensor, parameters: Given, statistics: Statistics) -> None:
        self.group = statistics.group
        self.found = self.forward(
            _layout(x),
            *(x.data_ptr(), y.data_ptr(), _addresses(*parameters)),
            _addresses(statistics.mean, statistics.var),
            batch=statistics.batch,
            factor=statistics.factor,
            eps=statistics.eps,
            join=None if self.group is None else _join_moments(self.group),
        )

    def backward(self, x: Tensor, g: Tensor, dx: Tensor | None, parameters: Given, learned: Given) -> None:
        self.found.backward(
            *(x.data_ptr(), g.data_ptr(), None if dx is None else dx.data_ptr()),
            *(_addresses(*parameters), _addresses(*learned)),
            None if self.group is None else _join_sums(self.group),
        )

    def normalisers(self) -> tuple[Tensor, Tensor]:
        mean, var = map(torch.from_numpy, self.found.statistics())
        return mean, var

    @classmethod
    def infer(cls, x: Tensor, y: Tensor, parameters: Given, statistics: Statistics) -> None:
        addresses = _addresses(*parameters), _addresses(statistics.mean, statistics.var)
        cls.forward.infer(_layout(x), x.data_ptr(), y.data_ptr(), *addresses, statistics.eps)


class NativeRBN(Native):
    """`Passes`."""

    given: ClassVar[Any] = RBNParameters
    plain: ClassVar[Any] = staticmethod(plain_rbn)
    forward = RBNForward


def _layout(x: Tensor) -> Layout:
    size, channels, *space = x.shape
    shape = (size, channels, prod(space))
    rows = shape[2] == 1 or not x.is_contiguous()
    return Layout(shape, rows, KINDS[x.dtype], torch.get_num_threads())


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if t is None else t.data_ptr() for t in tensors]


def _join_moments(group: Any) -> Join:
    def join(own: npt.NDArray[np.float64], count: float) -> float:
        every = torch.from_numpy(np.append(own, count))
        mean, squares, whole = joint_moments(every, group)
        own[0], own[1] = mean.numpy(), squares.numpy()
        return float(whole)

    return join


def _join_sums(group: Any) -> Join:
    def join(own: npt.NDArray[np.float64], count: float) -> float:
        dist.all_reduce(torch.from_numpy(own), group=group)
        return count

    return join
