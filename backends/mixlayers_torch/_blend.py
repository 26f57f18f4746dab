"""Carry out a blend on tensors: one kernel, whose backward is itself with the inverse permutation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixlayers._core.plan.masks import Mask
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace
from mixlayers_torch._transfer import Partners, send

Span = tuple[slice, ...]
_LARGE = 2**14
"""Elements of a sample from which the CPU pastes its own box alone faster than all boxes by a mask."""

_MANY = 2**21
"""Elements from which passes over memory count on the CPU, fresh memory most; below, it is the starts of operations."""


def blend(x: Tensor, how: Blend, partners: Partners) -> Tensor:
    """`x + w * (x[perm] - x)` with `w = mask * (1 - lam)`, out of place, in x's dtype, device and layout.

    Where the mask is False, x is selected, not multiplied: a partner's NaN or inf stays under the mask.

    Args:
        x: Feature, batch axis first, floating point or complex.
        how: The plan, brought to x's shape.
        partners: The plan's permutation.
    """
    watched = _watched()
    if how.mask is not None and len(how.mask) > 1 and not (x.requires_grad or watched) and _one_by_one(x):
        return _paste(x, how.perm.tolist(), _boxes(how.mask))
    box = None if watched else how.box
    masks = [how.mask] if how.mask is not None and box is None else []
    shares = [array for array in (how.lam, how.s) if isinstance(array, np.ndarray)]
    perm, inverted, *more = partners.beside(x.device, shares, once=masks)
    mask = more[-1] if masks else None
    act = _act if _derived(x) else _Blend.forward  # apply takes its time
    if mask is not None and len(mask) > 1:  # a box per sample, lam = 0
        return torch.where(mask, act(x, perm, inverted, 0.0, 1.0, None, None), x)
    keep = more[0].to(x.dtype) if isinstance(how.lam, np.ndarray) else how.lam
    return act(x, perm, inverted, keep, 1.0 - keep, mask, box)


def _watched() -> bool:
    """Whether a mode sees each operation and may keep its result, as selective checkpointing: write on none."""
    return torch._C._len_torch_dispatch_stack() > 0


def _derived(x: Tensor) -> bool:
    """Whether anybody may want a derivative by x, or transforms what is done with it."""
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    return x.requires_grad or forward_mode or torch._C._are_functorch_transforms_active()


def _one_by_one(x: Tensor) -> bool:
    """Whether boxes that differ are pasted one by one; on a GPU so many copies would cost more than whole passes."""
    return x.device.type == "cpu" and x[0].numel() >= _LARGE


def _boxes(mask: Mask) -> list[Span]:
    """Each sample's box in a mask (N, ...) of boxes, as slices over the axes after the first."""
    spans: list[list[slice]] = []
    for axis in range(1, mask.ndim):
        inside = np.any(mask, axis=tuple(other for other in range(1, mask.ndim) if other != axis))
        size = inside.shape[1]
        starts, stops = np.argmax(inside, axis=1), size - np.argmax(inside[:, ::-1], axis=1)
        stops = np.where(np.any(inside, axis=1), stops, starts)
        edges = zip(starts.tolist(), stops.tolist(), strict=True)
        spans.append([slice(None) if size == 1 and b == 1 else slice(a, b) for a, b in edges])
    return list(zip(*spans, strict=True))


def _paste_one(x: Tensor, perm: Tensor, box: Span) -> Tensor:
    """The partner's box in each sample."""
    if x.device.type == "cpu" and x.numel() < _MANY:
        result = x.clone()
        result[box] = x.index_select(0, perm)[box]
        return result
    theirs: Any = (perm, *box[1:])
    result = x.clone()
    result[box] = x[theirs]  # index_select of a box is many times slower
    return result


def _paste(x: Tensor, perm: list[int], boxes: list[Span]) -> Tensor:
    result = x.clone()
    for i, (partner, box) in enumerate(zip(perm, boxes, strict=True)):
        result[i][box] = x[partner][box]
    return result


def replace(x: Tensor, how: Replace) -> Tensor:
    """The fill under the mask, `scale * x` elsewhere, out of place, in x's dtype, device and layout.

    Args:
        x: Feature, batch axis first, floating point or complex.
        how: The plan, brought to x's shape.
    """
    mask, fill = send([how.mask, how.fill], x.device)
    return choose(mask, fill.to(x.dtype), x if how.scale == 1.0 else x * how.scale)


def choose(mask: Tensor, other: Tensor, x: Tensor) -> Tensor:
    """The other under the mask, x elsewhere, in x's layout."""
    where = torch.empty_like(x, dtype=torch.bool, requires_grad=False)  # `where` takes its layout on
    where.copy_(mask)
    return torch.where(where, other, x)


def _act(*args: Any) -> Tensor:
    """`_Blend.apply`, past the inspection of its signature, which takes longer than a small blend."""
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return _Blend.apply(*args)
    return super(torch.autograd.Function, _Blend).apply(*args)


class _Blend(torch.autograd.Function):
    """y_i = keep_i * x_i + give_i * x_perm(i) under the mask, x_i elsewhere.

    The transpose has the inverse permutation and give[inverse]; nothing of x is kept for it.
    """

    @staticmethod
    def forward(
        x: Tensor,
        perm: Tensor,
        inverted: Tensor,
        keep: float | Tensor,
        give: float | Tensor,
        mask: Tensor | None,
        box: Span | None,
    ) -> Tensor:
        if box is not None:
            return _paste_one(x, perm, box)
        mixed = _gather_add(x, perm, keep, give)
        if mask is None:
            return mixed
        return torch.where(mask, mixed, x) if _watched() else torch.where(mask, mixed, x, out=mixed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, perm, inverted, keep, give, mask, box = inputs
        per_sample = isinstance(keep, Tensor)
        ctx.save_for_backward(perm, inverted, mask, *((keep, give) if per_sample else ()))
        ctx.weights, ctx.box = None if per_sample else (keep, give), box

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        perm, inverted, mask, *weights = ctx.saved_tensors
        keep, give = ctx.weights or (weights[0], weights[1].index_select(0, inverted))
        gradient = _act(gradients[0], inverted, perm, keep, give, mask, ctx.box)
        return gradient, None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(
            "mixing has no forward-mode derivative: use reverse mode, or call the model in eval mode."
        )


def _gather_add(x: Tensor, perm: Tensor, keep: float | Tensor, give: float | Tensor) -> Tensor:
    """keep * x + give * x[perm], a fresh tensor in x's layout, in as few passes over memory as there are."""
    rows = _rows(x)
    if rows is None:
        return _weigh(x.index_select(0, perm), x, keep, give)
    if x.device.type == "cpu" and x.dtype is torch.float32 and x.numel() >= _MANY and not _watched():
        result = _embedding_bag(rows, perm, keep, give)
    else:
        result = _weigh(rows.index_select(0, perm), rows, keep, give)
    # `.data`, since a Function whose output is a view forbids what follows to work in place on it
    return result.as_strided(x.shape, x.stride()).data


def _weigh(partner: Tensor, x: Tensor, keep: float | Tensor, give: float | Tensor) -> Tensor:
    """keep * x + give * partner, written over the partner unless somebody watches."""
    watched = _watched()
    if isinstance(keep, Tensor) and isinstance(give, Tensor):
        shape = (-1,) + (1,) * (x.ndim - 1)
        keep, give = keep.view(shape), give.view(shape)
        return (partner * give).addcmul(x, keep) if watched else partner.mul_(give).addcmul_(x, keep)
    if keep == 0.0:
        return partner
    return partner.lerp(x, keep) if watched else partner.lerp_(x, keep)


def _embedding_bag(rows: Tensor, perm: Tensor, keep: float | Tensor, give: float | Tensor) -> Tensor:
    """The CPU's fastest weighted sum of many rows: each bag holds a sample and its partner."""
    size = len(perm)
    if not isinstance(keep, Tensor) and keep == 0.0:
        return torch.embedding_bag(rows, perm, torch.arange(size), False, 0)[0]
    members = torch.stack((torch.arange(size), perm), 1).view(-1)
    weights = rows.new_empty(size, 2)
    weights[:, 0], weights[:, 1] = keep, give
    return torch.embedding_bag(
        rows, members, torch.arange(0, 2 * size, 2), False, 0, False, weights.view(-1)
    )[0]


def _rows(x: Tensor) -> Tensor | None:
    """x as (N, elements), a view in the order of memory; None if its samples are not dense in memory."""
    if x.ndim and x.is_contiguous():
        return x.view(len(x), -1) if len(x) else None
    for layout, order in ((torch.channels_last, (0, 2, 3, 1)), (torch.channels_last_3d, (0, 2, 3, 4, 1))):
        if x.ndim == len(order) and x.is_contiguous(memory_format=layout):
            return x.permute(order).reshape(len(x), -1)
    return None
