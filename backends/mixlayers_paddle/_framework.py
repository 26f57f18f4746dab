"""PaddlePaddle's side of the core's operations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.io import get_worker_info

from mixlayers import MixingError
from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers_paddle._blend import Partners, blend, replace, share_on

IGNORED: Final = -100
"""The number of labels that do not count, by default."""


class Paddle(Framework):
    """PaddlePaddle's tensors and layers."""

    module = nn.Layer
    ignored = IGNORED

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, Tensor | paddle.pir.Value)

    def is_float(self, x: Tensor) -> bool:
        return bool(x.is_floating_point() or x.is_complex())

    def move_axis(self, x: Tensor, source: int, destination: int) -> Tensor:
        return paddle.moveaxis(x, source, destination)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        return paddle.maximum(x, y)

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        return paddle.concat(list(parts))

    def full(self, size: int, value: float, like: Tensor) -> Tensor:
        return paddle.full([size], value, "float32")._to(like.place)

    def to_numpy(self, x: Tensor) -> np.ndarray[Any, Any]:
        x = x.detach()  # NumPy has no bfloat16, of which Paddle would give the bits as whole numbers
        return (x.astype("float32") if x.dtype == paddle.bfloat16 else x).numpy()

    def is_bool(self, x: Tensor) -> bool:
        return bool(x.dtype == paddle.bool)

    def to_float(self, x: Tensor) -> Tensor:
        return x.astype("float32")

    def top(self, scores: Tensor, k: int) -> Tensor:
        return paddle.topk(scores, k, axis=1)[1]

    def zeroed(self, y: Tensor, kept: Tensor) -> Tensor:
        return y * kept.astype(y.dtype)

    def checks(self, y: Tensor) -> bool:
        return bool(paddle.in_dynamic_mode() and y.place.is_cpu_place())

    def hot(self, y: Tensor, num_classes: int) -> Tensor:
        return F.one_hot(y.astype("int64"), num_classes)

    def partners(self, perm: Permutation) -> Partners:
        return Partners(perm)

    def blend(self, x: Tensor, how: Blend, partners: Partners) -> Tensor:
        return blend(x, how, partners)

    def replace(self, x: Tensor, how: Replace) -> Tensor:
        return replace(x, how)

    def precise(self, x: Tensor) -> Tensor:
        return x.astype("float32") if x.dtype in (paddle.float16, paddle.bfloat16) else x

    def like(self, x: Tensor, other: Tensor) -> Tensor:
        return x.astype(other.dtype)

    def moments(self, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return x.mean(axes, keepdim=True), x.var(axes, keepdim=True)

    def detached(self, x: Tensor) -> Tensor:
        return x.detach()

    def exp(self, x: Tensor) -> Tensor:
        return x.exp()

    def log_sum_exp(self, x: Tensor, axis: int) -> Tensor:
        return paddle.logsumexp(x, axis, keepdim=True)

    def without_autocast(self, x: Tensor) -> AbstractContextManager[Any]:
        off: AbstractContextManager[Any] = paddle.amp.auto_cast(enable=False)
        return off

    def noise(self, x: Tensor, law: Literal["uniform", "normal"], seed: int) -> Tensor:
        kind, own = (
            ("float64" if x.dtype == paddle.float64 else "float32"),
            seed or 2**31 - 1,
        )  # 0: the global one's
        if law == "normal":
            made = paddle.tensor.random.gaussian(x.shape, 0.0, 1.0, own, kind)
        else:
            made = paddle.uniform(x.shape, kind, -1.0, 1.0, own)
        return made._to(x.place).astype(x.dtype)

    def points(self, x: Tensor, index: npt.NDArray[np.int64]) -> Tensor:
        at = paddle.to_tensor(index, place=x.place).unsqueeze(1).expand([-1, x.shape[1], -1])
        return paddle.take_along_axis(x, at, 2, broadcast=False)

    def where(self, mask: npt.NDArray[np.bool_], x: Tensor, y: Tensor) -> Tensor:
        return paddle.where(paddle.to_tensor(mask, place=x.place), x, y)

    def share(self, s: Lam, like: Tensor, partners: Any = None) -> float | Tensor:
        return share_on(s, like.place)

    def rank(self) -> int:
        return paddle.distributed.get_rank()

    def worker(self) -> tuple[int, ...] | None:
        worker = get_worker_info()
        return None if worker is None else (worker.seed, worker.id)

    def check_mixing(self) -> None:
        if not paddle.in_dynamic_mode():
            raise MixingError(
                "a static trace would mix every step by the plan of this one: mix outside paddle.jit.to_static, "
                "at the input (layers='input'), or trace with full_graph=False."
            )


PADDLE = Paddle()
