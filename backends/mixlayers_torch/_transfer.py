"""A step's arrays on a device: what one blend needs goes there in one copy, which nobody waits for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.pairs import inverse

Array = np.ndarray[Any, Any]
_ALIGNED = 16
"""Bytes: every array in a packed one begins at a multiple, so that any dtype may be read there."""


class Partners:
    """A step's permutation, its inverse and its shares, moved to each device once."""

    def __init__(self, perm: Permutation) -> None:
        self.perm = perm
        self._inverse = inverse(perm)
        self._sent: dict[torch.device, list[tuple[Array, Tensor]]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """perm and its inverse, int64 (N,) each, on the device."""
        perm, inverted = self.beside(device)
        return perm, inverted

    def beside(
        self, device: torch.device, kept: Sequence[Array] = (), *, once: Sequence[Array] = ()
    ) -> list[Tensor]:
        """perm, its inverse and further arrays on the device; one copy carries all that are not there yet.

        Args:
            device: Where to.
            kept: Shares, of which each is asked for again.
            once: Masks and the like, which are not kept beyond this.
        """
        sent = self._sent.setdefault(device, [])
        lasting = [self.perm, self._inverse, *kept]
        known = [next((moved for own, moved in sent if own is array), None) for array in lasting]
        new = [array for array, moved in zip(lasting, known, strict=True) if moved is None]
        arrived = send([*new, *once], device) if new or once else []
        fresh = iter(arrived[: len(new)])
        found = [next(fresh) if moved is None else moved for moved in known]
        sent += zip(new, arrived, strict=False)
        return [*found, *arrived[len(new) :]]

    def of(self, target: Tensor) -> Tensor:
        """`target[perm]`."""
        return target.index_select(0, self.on(target.device)[0])

    def share(self, s: Array, device: torch.device) -> Tensor:
        """A share of each sample, float32 (N,), on the device."""
        return self.beside(device, [s])[2]


def send(arrays: Sequence[Array], device: torch.device) -> list[Tensor]:
    """NumPy arrays as tensors on a device; CUDA gets one copy from pinned memory, ordered and not waited for."""
    if not pins(device):
        return [torch.tensor(array).to(device, non_blocking=True) for array in arrays]
    spans, size = layout(arrays)
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    pack(packed, arrays, spans)
    # the memory is PyTorch's own and is not given out again before the copy is done
    return unpack(packed.to(device, non_blocking=True), arrays, spans)


def pins(device: torch.device) -> bool:
    """Whether memory can be pinned for a device: a real GPU, and no mode that looks at every tensor."""
    return device.type == "cuda" and torch.cuda.is_initialized() and torch._C._len_torch_dispatch_stack() == 0


def layout(arrays: Sequence[Array]) -> tuple[list[slice], int]:
    """Where each array lies among the bytes of a packed one, and how many bytes there are."""
    spans, start = [], 0
    for array in arrays:
        spans.append(slice(start, start + array.nbytes))
        start += math.ceil(array.nbytes / _ALIGNED) * _ALIGNED
    return spans, start


def pack(packed: Tensor, arrays: Sequence[Array], spans: Sequence[slice]) -> None:
    """Write arrays into a tensor of bytes on the host."""
    memory = packed.numpy()
    for array, span in zip(arrays, spans, strict=True):
        memory[span] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def unpack(packed: Tensor, arrays: Sequence[Array], spans: Sequence[slice]) -> list[Tensor]:
    """The arrays again, views of a tensor of bytes."""
    dtypes = (torch.from_numpy(np.empty(0, array.dtype)).dtype for array in arrays)
    return [
        packed[span].view(dtype).view(array.shape)
        for array, span, dtype in zip(arrays, spans, dtypes, strict=True)
    ]
