"""IEBN's passes over memory: sums per instance and channel, and an affine map per instance and channel.

A feature comes in one of two layouts: *planes* (N, C, L), where L, the space, is contiguous, and *rows* (N, L, C),
which is channels_last; `axis` is where the space is, 2 or 1. Vectors per instance and channel are (N, C). On the CPU
the native batch norm, shown each plane as a channel of its own, is PyTorch's fastest reduction and affine map.
"""

from __future__ import annotations

from functools import cache
from math import prod

import torch
from torch import Tensor

BLOCK = 2**17
"""Elements per thread that are worked on at a time, so that what one operation wrote the next finds in the cache."""

SHORT = 32
"""Up to so many elements a plane, two broadcasting operations are faster than the native batch norm."""

EXACT = 2**9
"""A sum of so many float32 is exact to a few roundings whichever way a processor adds them up. Longer planes are cut,
and float64 adds the pieces: the gradients of the parameters magnify what the mean is off by."""

LONG = 2**12
"""A plane up to so long is added up in one go where its length has no fitting divisor."""

HALF = (torch.bfloat16, torch.float16)

_norm = torch.ops.aten.native_batch_norm
_norm_backward = torch.ops.aten.native_batch_norm_backward


def is_rows(x: Tensor) -> bool:
    """Whether x (N, C, ...) lies in memory as (N, ..., C)."""
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def can_cut(x: Tensor) -> bool:
    """Whether the planes (N, C, L) have equal short pieces. PyTorch's own sum, slower, is exact at any length."""
    return _piece(x.shape[2]) > 0


def matrix(x: Tensor) -> tuple[Tensor, int]:
    """A view of x as planes or rows, and the axis of space."""
    size, channels, *space = x.shape
    if is_rows(x):
        return x.movedim(1, -1).view(size, prod(space), channels), 1
    return x.view(size, channels, prod(space)), 2


def shaped(flat: Tensor, x: Tensor) -> Tensor:
    """Fresh planes or rows in the shape of x, not as a view: what follows may work in place on it."""
    return flat.as_strided(x.shape, x.stride()).data


def centred(x: Tensor, mean: Tensor, axis: int) -> Tensor:
    """x less the mean (C,)."""
    return x - (mean if axis == 1 else mean.unsqueeze(1))


def plane_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One pass over the CPU's float32 planes.

    The squares are taken about the first sample's mean, so that an ordinary offset does not cancel.

    Returns:
        The sums over space (N, C); the batch's mean, and the sum of squares about it, float64 (C,).
    """
    count = x.shape[0] * x.shape[2]
    about = x[0].mean(1)
    total, second = _plane_sums(x, x, about)
    mean = total.sum(0, dtype=torch.float64).div_(count)
    squares = second.sum(0, dtype=torch.float64).addcmul_(mean, mean - about, value=-count)
    return total.to(x.dtype), mean, squares


def precise_moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same in float64 and two passes, for any layout and any offset."""
    precise = x.double()
    var, mean = torch.var_mean(precise, (0, axis), correction=0)
    return precise.sum(axis), mean, var * (x.shape[0] * x.shape[axis])


def sums(x: Tensor, axis: int) -> Tensor:
    """The sums over space, (N, C), float32 at least."""
    if x.dtype in HALF and len(x):
        return torch.cat([sums(x[own].float(), axis) for own in _blocks(x)])
    if axis == 2 and x.device.type == "cpu" and x.numel() and can_cut(x):  # faster than whole planes
        return _joined(_cut(x).sum(1), x).to(x.dtype)
    return x.sum(axis)


def affine(x: Tensor, scale: Tensor, shift: Tensor, axis: int) -> Tensor:
    """`scale * x + shift`, scale and shift (N, C)."""
    if x.dtype not in HALF and axis == 2 and x.shape[2] <= SHORT:
        return torch.mul(x, scale.unsqueeze(2)).add_(shift.unsqueeze(2))
    if _native(x, axis):
        zeros, ones = torch.zeros_like(scale), torch.ones_like(scale)
        vectors = (t.view(-1) for t in (scale, shift, zeros, ones))
        return _norm(_as_channels(x), *vectors, False, 0.0, 0.0)[0].view_as(x)
    if x.dtype not in HALF:
        return torch.addcmul(shift.unsqueeze(axis), x, scale.unsqueeze(axis))
    out = torch.empty_like(x)
    for own in _blocks(x):
        out[own] = affine(x[own].float(), scale[own], shift[own], axis)
    return out


def products(gradient: Tensor, x: Tensor, mean: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The sums over space of the gradient, and of the gradient times (x - mean), (N, C) each.

    Args:
        gradient, x: In the same layout.
        mean: (C,).
    """
    size = len(x)
    if _native(x, axis) and can_cut(x):
        total, product = _plane_sums(gradient, x, mean)
        return total.to(mean.dtype), product.to(mean.dtype)
    if x.dtype in HALF and size:
        parts = [products(gradient[own].float(), x[own].float(), mean, axis) for own in _blocks(x)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    total, product = mean.new_empty((2, size, x.shape[3 - axis]))
    blocks = _blocks(x)
    scratch = torch.empty_like(x[blocks[0]])
    for own in blocks:
        part = gradient[own]
        torch.sum(part, axis, out=total[own])
        torch.sum(torch.mul(part, x[own], out=scratch[: len(part)]), axis, out=product[own])
    return total, product.sub_(mean * total)


def combine(gradient: Tensor, x: Tensor, on_g: Tensor, on_x: Tensor, shift: Tensor, axis: int) -> Tensor:
    """`on_g * gradient + on_x * x + shift`, on_g and shift (N, C), on_x (C,)."""
    slopes = on_x.expand(len(x), -1).contiguous()
    if x.dtype in HALF and _native(x, axis):  # rounded twice, the larger term first
        return affine(gradient, on_g, shift, axis).addcmul_(x, slopes.unsqueeze(axis).to(x.dtype))
    if x.dtype not in HALF:
        return affine(x, slopes, shift, axis).addcmul_(gradient, on_g.unsqueeze(axis))
    out = torch.empty_like(x)
    for own in _blocks(x):
        out[own] = combine(gradient[own].float(), x[own].float(), on_g[own], on_x, shift[own], axis)
    return out


def _plane_sums(gradient: Tensor, x: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of the gradient and of gradient * (x - about) over each plane; x (N, C, L), about (C,)."""
    cut = _cut(x)
    each = about.repeat_interleave(len(cut) // (len(x) * len(about))).repeat(len(x))
    _, product, total = _norm_backward(
        gradient.view_as(cut).unsqueeze(0),
        cut.unsqueeze(0),
        *(None, None, None, each, torch.ones_like(each), True, 0.0, [False, True, True]),
    )
    return _joined(total, x), _joined(product, x)


def _cut(x: Tensor) -> Tensor:
    """Planes (N, C, L) as the rows of a matrix, each plane cut into equal pieces."""
    return x.view(-1, _piece(x.shape[2]))


@cache
def _piece(space: int) -> int:
    """How long the pieces of a plane are; 0: it has no equal pieces short enough."""
    piece = next((n for n in range(min(space, EXACT), 7, -1) if space % n == 0), 0)
    return space if not piece and space <= LONG else piece


def _joined(pieces: Tensor, x: Tensor) -> Tensor:
    """The sums of each plane's pieces, (N, C): float64 where there is more than one."""
    pieces = pieces.view(*x.shape[:2], -1)
    return pieces[..., 0] if pieces.shape[2] == 1 else pieces.sum(2, dtype=torch.float64)


def _native(x: Tensor, axis: int) -> bool:
    """Whether the native batch norm is the way: not with short planes of half precision, where it is slow."""
    shortest = 64 if x.dtype in HALF else 2
    return axis == 2 and x.device.type == "cpu" and x.numel() > 0 and x.shape[2] >= shortest


def _as_channels(x: Tensor) -> Tensor:
    """(N, C, L) as (1, N * C, L)."""
    return x.view(1, -1, x.shape[2])


def _blocks(x: Tensor) -> list[slice]:
    """Slices of samples, each a block."""
    step = max(1, BLOCK * torch.get_num_threads() // max(1, prod(x.shape[1:])))
    if x.device.type != "cpu":
        step = max(1, len(x))
    return [slice(start, start + step) for start in range(0, max(1, len(x)), step)]
