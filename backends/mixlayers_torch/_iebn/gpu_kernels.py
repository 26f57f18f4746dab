"""The Triton kernels of `gpu`. Every sum is made in float32 and in one order, whatever runs beside it.

A feature is (n, c, l) in memory or (n, l, c): an element of one sample lies at `c * step_c + l * step_l`. A program
works on BC channels times BL of space. Sums over space are (parts, n, c): each part of space is one program's, and
whoever needs a sum adds the parts. Vectors a channel are (c).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _vector(of, c, inside, default: tl.constexpr, there: tl.constexpr = True):
    """Numbers of a vector, float32; a default where there is no vector."""
    if there:
        return tl.load(of + c, mask=inside, other=default).to(tl.float32)
    return tl.full(c.shape, default, tl.float32)


@triton.jit
def _joined(parts_of, parts, size, at, inside):
    """Sums over space, given the parts', `size` numbers each."""
    total = tl.load(parts_of + at, mask=inside, other=0.0)
    for part in range(1, parts):
        total += tl.load(parts_of + part * size + at, mask=inside, other=0.0)
    return total


@triton.jit
def _sigmoid(z):
    return 1.0 / (1.0 + tl.exp(-z))


@triton.jit
def add(
    x, g, about, first, second, channels, length, step_c, step_l, OF: tl.constexpr, BC: tl.constexpr,
    BL: tl.constexpr,
):  # fmt: skip
    """The sums over space of e and of e * (x - about): e is x - about ("squares", "means": no second sum) or g."""
    n, part, parts = tl.program_id(0), tl.program_id(2), tl.num_programs(2)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < channels
    centre = _vector(about, c, known, 0.0)
    span = tl.cdiv(length, parts)
    end = tl.minimum((part + 1) * span, length)
    base = n.to(tl.int64) * channels * length
    u = tl.zeros((BC, BL), tl.float32)
    v = tl.zeros((BC, BL), tl.float32)
    for start in range(part * span, end, BL):
        l = start + tl.arange(0, BL)  # noqa: E741
        inside = known[:, None] & (l < end)[None, :]
        at = base + c[:, None] * step_c + l[None, :] * step_l
        d = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - centre[:, None]
        d = tl.where(inside, d, 0.0)
        e = d
        if OF == "products":
            e = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        u += e
        if OF != "means":
            v += e * d
    to = (part * tl.num_programs(0) + n).to(tl.int64) * channels + c
    tl.store(first + to, tl.sum(u, 1), mask=known)
    if OF != "means":
        tl.store(second + to, tl.sum(v, 1), mask=known)


@triton.jit
def settle(
    first, second, about, off, rstd, running_mean, running_var, rows, channels, count, unbiased, eps,
    factor, KEPT: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """What normalises: the mean is about + off. Updates the running statistics. Rows are parts times samples."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    known = c < channels
    u = tl.zeros((BN, BC), tl.float32)
    v = tl.zeros((BN, BC), tl.float32)
    for start in range(0, rows, BN):
        n = start + tl.arange(0, BN)
        inside = (n < rows)[:, None] & known[None, :]
        at = n[:, None].to(tl.int64) * channels + c[None, :]
        u += tl.load(first + at, mask=inside, other=0.0)
        v += tl.load(second + at, mask=inside, other=0.0)
    gap = tl.sum(u, 0) / count
    var = tl.sum(v, 0) / count - gap * gap
    var = tl.where(var < 0.0, 0.0, var)  # a NaN stays
    tl.store(off + c, gap, mask=known)
    tl.store(rstd + c, 1.0 / tl.sqrt(var + eps), mask=known)
    if KEPT:
        mean = _vector(running_mean, c, known, 0.0)
        mean += factor * (_vector(about, c, known, 0.0) + gap - mean)
        tl.store(running_mean + c, mean.to(running_mean.dtype.element_ty), mask=known)
        old = _vector(running_var, c, known, 0.0)
        old += factor * (var * unbiased - old)
        tl.store(running_var + c, old.to(running_var.dtype.element_ty), mask=known)


@triton.jit
def map(
    x, y, first, gap, about, off, rstd, weight, bias, weight_readjust, bias_readjust, parts, channels,
    length, step_c, step_l, WEIGHT: tl.constexpr, BIAS: tl.constexpr, BC: tl.constexpr, BL: tl.constexpr,
):  # fmt: skip
    """The output; keeps the means over space."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    l = tl.program_id(2) * BL + tl.arange(0, BL)  # noqa: E741
    known = c < channels
    centre = _vector(about, c, known, 0.0)
    own = n * channels + c
    size = tl.num_programs(0).to(tl.int64) * channels
    mean = _joined(first, parts, size, own, known) / length + centre
    z = _vector(weight_readjust, c, known, 0.0) * mean + _vector(bias_readjust, c, known, 0.0)
    scale = _sigmoid(z) * _vector(weight, c, known, 1.0, WEIGHT) * _vector(rstd, c, known, 0.0)
    shift = _vector(bias, c, known, 0.0, BIAS) - scale * _vector(off, c, known, 0.0)
    if tl.program_id(2) == 0:
        tl.store(gap + own, mean, mask=known)
    inside = known[:, None] & (l < length)[None, :]
    at = n * channels * length + c[:, None] * step_c + l[None, :] * step_l
    d = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - centre[:, None]
    tl.store(y + at, (d * scale[:, None] + shift[:, None]).to(y.dtype.element_ty), mask=inside)


@triton.jit
def learn(
    first, second, gap, off, rstd, weight, weight_readjust, bias_readjust, on_weight, on_bias,
    on_weight_readjust, on_bias_readjust, average, slope, parts, samples, channels, size, WEIGHT: tl.constexpr,
    BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The parameters' gradients, and the batch's sums of the normalised output's gradients."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    known = c < channels
    centre = _vector(off, c, known, 0.0)[None, :]
    readjust = _vector(weight_readjust, c, known, 0.0)[None, :]
    start = _vector(bias_readjust, c, known, 0.0)[None, :]
    slopes = tl.zeros((BN, BC), tl.float32)
    by = tl.zeros((BN, BC), tl.float32)
    plus = tl.zeros((BN, BC), tl.float32)
    averages = tl.zeros((BN, BC), tl.float32)
    every = tl.zeros((BN, BC), tl.float32)
    for block in range(0, samples, BN):
        n = block + tl.arange(0, BN)
        inside = (n < samples)[:, None] & known[None, :]
        at = n[:, None].to(tl.int64) * channels + c[None, :]
        total = _joined(first, parts, size, at, inside)
        product = _joined(second, parts, size, at, inside) - centre * total
        mean = tl.load(gap + at, mask=inside, other=0.0)
        gate = _sigmoid(readjust * mean + start)
        product = tl.where(inside, product * gate, 0.0)
        slopes += product
        by += product * (1.0 - gate) * mean
        plus += product * (1.0 - gate)
        averages += gate * total
        every += total
    r = _vector(rstd, c, known, 0.0)
    by_factor = _vector(weight, c, known, 1.0, WEIGHT) * r
    kind = on_weight.dtype.element_ty
    tl.store(on_weight + c, (tl.sum(slopes, 0) * r).to(kind), mask=known)
    tl.store(on_bias + c, tl.sum(every, 0).to(kind), mask=known)
    tl.store(on_weight_readjust + c, (tl.sum(by, 0) * by_factor).to(kind), mask=known)
    tl.store(on_bias_readjust + c, (tl.sum(plus, 0) * by_factor).to(kind), mask=known)
    tl.store(average + c, tl.sum(averages, 0), mask=known)
    tl.store(slope + c, tl.sum(slopes, 0), mask=known)


@triton.jit
def combine(
    x, g, dx, first, second, gap, about, off, rstd, weight, weight_readjust, bias_readjust, average,
    slope, count, parts, channels, length, step_c, step_l, BATCH: tl.constexpr, WEIGHT: tl.constexpr,
    BC: tl.constexpr, BL: tl.constexpr,
):  # fmt: skip
    """The gradient of x: scale * g + on_x * (x - about) + shift."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    l = tl.program_id(2) * BL + tl.arange(0, BL)  # noqa: E741
    known = c < channels
    own = n * channels + c
    size = tl.num_programs(0).to(tl.int64) * channels
    centre = _vector(off, c, known, 0.0)
    product = _joined(second, parts, size, own, known) - centre * _joined(first, parts, size, own, known)
    readjust = _vector(weight_readjust, c, known, 0.0)
    mean = tl.load(gap + own, mask=known, other=0.0)
    gate = _sigmoid(readjust * mean + _vector(bias_readjust, c, known, 0.0))
    r = _vector(rstd, c, known, 0.0)
    factor = _vector(weight, c, known, 1.0, WEIGHT) * r
    shift = product * gate * (1.0 - gate) * factor * readjust / length
    on_x = tl.zeros((BC,), tl.float32)
    if BATCH:
        on_x -= factor * r * r * _vector(slope, c, known, 0.0) / count
        shift -= factor * _vector(average, c, known, 0.0) / count + on_x * centre
    inside = known[:, None] & (l < length)[None, :]
    at = n * channels * length + c[:, None] * step_c + l[None, :] * step_l
    d = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - _vector(about, c, known, 0.0)[:, None]
    e = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    found = (gate * factor)[:, None] * e + on_x[:, None] * d + shift[:, None]
    tl.store(dx + at, found.to(dx.dtype.element_ty), mask=inside)
