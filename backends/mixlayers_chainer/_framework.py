"""Chainer's side of the core's operations."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from multiprocessing import current_process
from types import FrameType
from typing import Any, Final, Literal

import chainer
import chainer.functions as F
import numpy as np
import numpy.typing as npt
from chainer import Link, Variable, backend
from chainer.training.updaters import ParallelUpdater
from chainer.training.updaters.multiprocess_parallel_updater import _Worker

from mixlayers._core.batch.collate import worker_process
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.numpy_arrays import noise
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers_chainer._blend import Array, Partners, blend, device_of, replace, share_on

_REPLICAS = ParallelUpdater.update_core.__code__

IGNORED: Final = -1
"""The number of labels that do not count, by default."""


class Chainer(Framework):
    """Chainer's variables, the arrays that they hold, and links."""

    module = Link
    ignored = IGNORED

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, (Variable, *chainer.get_array_types()))

    def is_float(self, x: Variable | Array) -> bool:
        return x.dtype.kind in "fc"

    def move_axis(self, x: Variable | Array, source: int, destination: int) -> Variable | Array:
        if isinstance(x, Variable):
            return F.moveaxis(x, source, destination)
        return backend.get_array_module(x).moveaxis(x, source, destination)

    def concatenate(self, parts: Sequence[Variable | Array]) -> Variable | Array:
        if any(isinstance(part, Variable) for part in parts):
            return F.concat(list(parts), axis=0)
        return backend.get_array_module(parts[0]).concatenate(list(parts))

    def full(self, size: int, value: float, like: Variable | Array) -> Array:
        return device_of(like).send(np.full(size, value, np.float32))

    def to_numpy(self, x: Variable | Array) -> np.ndarray[Any, Any]:
        return backend.CpuDevice().send(chainer.as_array(x))

    def is_bool(self, x: Variable | Array) -> bool:
        return bool(x.dtype.kind == "b")

    def to_float(self, x: Variable | Array) -> Array:
        return chainer.as_array(x).astype(np.float32)

    def top(self, scores: Array, k: int) -> Array:
        return scores.argmax(axis=1)[:, None] if k == 1 else (-scores).argsort(axis=1)[:, :k]

    def label(self, y: Variable | Array) -> Array:
        return chainer.as_array(y)

    def hot(self, y: Variable | Array, num_classes: int) -> Array:
        array, device = chainer.as_array(y), device_of(y)
        with chainer.using_device(device):
            return (array[..., None] == device.send(np.arange(num_classes))).astype(np.float32)

    def partners(self, perm: Permutation) -> Partners:
        return Partners(perm)

    def blend(self, x: Variable | Array, how: Blend, partners: Partners) -> Variable | Array:
        return blend(x, how, partners)

    def replace(self, x: Variable | Array, how: Replace) -> Variable | Array:
        return replace(x, how)

    def scalar(self, value: Any) -> Variable:
        return Variable(np.asarray(value) if isinstance(value, np.generic) else value, requires_grad=False)

    def precise(self, x: Variable | Array) -> Variable | Array:
        return _cast(x, np.dtype(np.float32)) if x.dtype == np.float16 else x

    def like(self, x: Variable | Array, other: Variable | Array) -> Variable | Array:
        return _cast(x, other.dtype)

    def moments(
        self, x: Variable | Array, axes: tuple[int, ...]
    ) -> tuple[Variable | Array, Variable | Array]:
        if not isinstance(x, Variable):
            return x.mean(axes, keepdims=True), x.var(axes, ddof=1, keepdims=True)
        count = math.prod(x.shape[axis] for axis in axes)
        mean = F.mean(x, axes, keepdims=True)
        return mean, F.sum((x - mean) ** 2, axes, keepdims=True) / (count - 1)

    def detached(self, x: Variable | Array) -> Array:
        return chainer.as_array(x)

    def exp(self, x: Variable | Array) -> Variable | Array:
        return _as_given(F.exp(x), x)

    def log_sum_exp(self, x: Variable | Array, axis: int) -> Variable | Array:
        return _as_given(F.expand_dims(F.logsumexp(x, axis), axis), x)

    def noise(self, x: Variable | Array, law: Literal["uniform", "normal"], seed: int) -> Array:
        return device_of(x).send(noise(x.shape, law, seed).astype(x.dtype))

    def points(self, x: Variable | Array, index: npt.NDArray[np.int64]) -> Variable | Array:
        device, (size, channels, _) = device_of(x), x.shape
        own = (np.arange(size)[:, None, None], np.arange(channels)[:, None], index[:, None])
        return _as_given(F.get_item(x, tuple(map(device.send, own))), x)

    def where(
        self, mask: npt.NDArray[np.bool_], x: Variable | Array, y: Variable | Array
    ) -> Variable | Array:
        return _as_given(F.where(device_of(x).send(mask), x, y), y)

    def share(self, s: Lam, like: Variable | Array, partners: Any = None) -> float | Array:
        return share_on(s, device_of(like))

    def worker(self) -> tuple[int, ...] | None:
        """Of a MultiprocessIterator: its processes stay for all epochs, and so go on counting."""
        return worker_process()

    def has_peers(self) -> bool:
        """Whether other processes may train the model too, under ChainerMN or a MultiprocessParallelUpdater."""
        mpi = sys.modules.get("mpi4py.MPI")
        return isinstance(current_process(), _Worker) or (mpi is not None and mpi.COMM_WORLD.Get_size() > 1)

    def rank(self) -> int:
        """The process's under ChainerMN or a MultiprocessParallelUpdater; the replica's under a ParallelUpdater."""
        process = current_process()
        if isinstance(process, _Worker):
            return int(process.proc_id)
        mpi = sys.modules.get("mpi4py.MPI")
        rank: int = mpi.COMM_WORLD.Get_rank() if mpi is not None else 0
        for frame in _frames():
            if frame.f_code is _REPLICAS:
                replicas = list(frame.f_locals["self"]._models)
                return rank * len(replicas) + replicas.index(frame.f_locals["model_key"])
        return rank


CHAINER = Chainer()


def _cast(x: Variable | Array, dtype: np.dtype[Any]) -> Variable | Array:
    return F.cast(x, dtype) if isinstance(x, Variable) else x.astype(dtype, copy=False)


def _as_given(result: Variable, x: Variable | Array) -> Variable | Array:
    """An array of an array."""
    return result if isinstance(x, Variable) else result.array


def _frames() -> list[FrameType]:
    """The calls around this one, innermost first."""
    found = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found
