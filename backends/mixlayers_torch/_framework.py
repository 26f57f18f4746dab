"""PyTorch's side of the core's operations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from mixlayers._core.errors import MixingError
from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers_torch._blend import blend, choose, replace
from mixlayers_torch._transfer import Partners, send

IGNORED: Final = -100
"""The number of labels that do not count, by default."""


class Torch(Framework):
    """PyTorch's tensors and modules."""

    module = nn.Module
    ignored = IGNORED

    def is_tensor(self, x: object) -> bool:
        return isinstance(x, Tensor)

    def check_shaped(self, x: Tensor) -> None:
        if x.is_nested:
            raise ValueError(
                "a nested tensor's samples have lengths of their own, so that no two can be blended, got one of "
                f"{x.size(0)} samples: pad it, torch.nested.to_padded_tensor(x, 0.0), and name the padding mask, "
                "wrap(model, mask=...)."
            )

    def is_float(self, x: Tensor) -> bool:
        return x.is_floating_point() or x.is_complex()

    def move_axis(self, x: Tensor, source: int, destination: int) -> Tensor:
        return x.movedim(source, destination)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.maximum(x, y)

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def full(self, size: int, value: float, like: Tensor) -> Tensor:
        return like.new_full((size,), value, dtype=torch.float32)

    def to_numpy(self, x: Tensor) -> np.ndarray[Any, Any]:
        x = x.detach()
        return (x.float() if x.dtype is torch.bfloat16 else x).cpu().numpy()  # NumPy has none

    def is_bool(self, x: Tensor) -> bool:
        return x.dtype is torch.bool

    def to_float(self, x: Tensor) -> Tensor:
        return x.float()

    def top(self, scores: Tensor, k: int) -> Tensor:
        return scores.topk(k, 1).indices

    def checks(self, y: Tensor) -> bool:
        traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        return type(y) is Tensor and y.device.type == "cpu" and not traced

    def hot(self, y: Tensor, num_classes: int) -> Tensor:
        hot = torch.zeros(*y.shape, num_classes, device=y.device)
        return hot.scatter_(-1, y.long().unsqueeze(-1), 1.0)

    def partners(self, perm: Permutation) -> Partners:
        return Partners(perm)

    def blend(self, x: Tensor, how: Blend, partners: Partners) -> Tensor:
        return blend(x, how, partners)

    def replace(self, x: Tensor, how: Replace) -> Tensor:
        return replace(x, how)

    def precise(self, x: Tensor) -> Tensor:
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

    def like(self, x: Tensor, other: Tensor) -> Tensor:
        return x.to(other.dtype)

    def moments(self, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, axes, keepdim=True)
        return mean, variance

    def detached(self, x: Tensor) -> Tensor:
        return x.detach()

    def exp(self, x: Tensor) -> Tensor:
        return x.exp()

    def log_sum_exp(self, x: Tensor, axis: int) -> Tensor:
        return x.logsumexp(axis, keepdim=True)

    def without_autocast(self, x: Tensor) -> AbstractContextManager[Any]:
        kind = x.device.type
        return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()

    def noise(self, x: Tensor, law: Literal["uniform", "normal"], seed: int) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(seed)
        made = torch.empty_like(x, requires_grad=False)
        return (
            made.normal_(generator=generator)
            if law == "normal"
            else made.uniform_(-1.0, 1.0, generator=generator)
        )

    def points(self, x: Tensor, index: npt.NDArray[np.int64]) -> Tensor:
        at = send([index], x.device)[0]
        return x.gather(2, at.unsqueeze(1).expand(-1, x.shape[1], -1))

    def where(self, mask: npt.NDArray[np.bool_], x: Tensor, y: Tensor) -> Tensor:
        return choose(send([mask], x.device)[0], x, y)

    def share(self, s: Lam, like: Tensor, partners: Partners | None = None) -> float | Tensor:
        if not isinstance(s, np.ndarray):
            return s
        return send([s], like.device)[0] if partners is None else partners.share(s, like.device)

    def rank(self) -> int:
        ready = torch.distributed.is_available() and torch.distributed.is_initialized()
        return torch.distributed.get_rank() if ready else 0

    def worker(self) -> tuple[int, ...] | None:
        worker = get_worker_info()
        return None if worker is None else (worker.seed,)

    def check_mixing(self) -> None:
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            raise MixingError(
                "a CUDA graph that is captured here would mix every step by the plan of this one: mix outside of it, "
                "the input by mixlayers.torch.mix; or take torch.compile(model, mode='reduce-overhead')."
            )

    def check_forward(self, model: nn.Module) -> None:
        if getattr(model, "_is_replica", False):
            raise TypeError("nn.DataParallel splits the batch under the plan: use DistributedDataParallel.")


TORCH = Torch()
