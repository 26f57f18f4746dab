"""IEBN on the device: the oracle's values and gradients, and its time beside BatchNorm's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from device.cases import Case
from device.machine import Device
from device.proofs import on_host
from device.speed import alternate
from iebn import Published
from parts.timing import Row, ratio
from torch import nn

from mixlayers.torch import IEBN2d
from tests.support import reference_iebn as reference

TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}
"""Of the largest value of each result, for features about 0; far from it each is rounded to a share of its offset."""

SHAPES = ((4, 3, 5, 6), (6, 5, 1, 7), (16, 24, 14, 14))
TIMED = (
    (128, 64, 32, 32), (64, 256, 16, 16), (32, 64, 56, 56), (256, 512, 4, 4), (100, 64, 8, 8), (128, 256, 56, 56),
)  # fmt: skip


def iebn_proofs(device: Device) -> Iterator[Case]:
    """Against the oracle."""
    for dtype in TOLERANCE:
        name = str(dtype).removeprefix("torch.")
        yield Case(
            f"IEBN's values and gradients are the oracle's, {name}", partial(_equals_oracle, device, dtype)
        )


def _equals_oracle(device: Device, dtype: torch.dtype) -> str:
    number = 0
    for shape in SHAPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            for training in (True, False):
                for offset in (0.0, 100.0) if dtype in (torch.float32, torch.float64) else (0.0,):
                    _compare(device, shape, dtype, layout, training, offset)
                    number += 1
    return f"{number} cases"


def _compare(
    device: Device,
    shape: Sequence[int],
    dtype: torch.dtype,
    layout: torch.memory_format,
    training: bool,
    offset: float,
) -> None:
    layer = IEBN2d(shape[1], device=device.torch, dtype=torch.float64 if dtype is torch.float64 else None)
    with torch.no_grad():
        for seed, p in enumerate(layer.parameters()):
            p.copy_(device.randn(shape[1], seed=seed) * 0.5 / max(offset / 10, 1.0))
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(device.randn(shape[1], seed=7) + offset)
        layer.running_var.copy_(device.randn(shape[1], seed=8).abs() + 0.5)
    kept = [on_host(layer.running_mean), on_host(layer.running_var)]
    layer.train(training)
    x = (device.randn(*shape, seed=9) + offset).to(dtype).contiguous(memory_format=layout).requires_grad_()
    upstream = device.randn(*shape, seed=10).to(dtype)
    y = layer(x)
    y.backward(upstream)
    names = ("weight", "bias", "weight_readjust", "bias_readjust")
    vectors = [on_host(getattr(layer, name)) for name in names]
    mean, var = (None, None) if training else kept
    wanted = reference.iebn(on_host(x), *vectors, mean=mean, var=var)
    slopes = reference.iebn_backward(on_host(upstream), on_host(x), *vectors, mean=mean, var=var)
    pairs = {"y": (y, wanted), "x": (x.grad, slopes.x)}
    pairs |= {name: (getattr(layer, name).grad, getattr(slopes, name)) for name in names}
    if training:
        new = reference.running_statistics(on_host(x), *kept)
        pairs |= {"running_mean": (layer.running_mean, new[0]), "running_var": (layer.running_var, new[1])}
    for name, (ours, theirs) in pairs.items():
        size = np.abs(theirs).max()
        off = np.abs(on_host(ours) - theirs).max()
        limit = TOLERANCE[dtype] * max(size, 1.0) * max(offset / 10, 1.0)
        case = f"{tuple(shape)}, {layout}, training {training}, offset {offset:g}"
        assert off <= limit, f"{name} is {off:.2g} off, of {size:.2g}: {case}"
    assert y.dtype is dtype and y.is_contiguous(memory_format=layout)


def iebn_speed(device: Device) -> Iterator[Case]:
    """Beside BatchNorm and the published formula, in one run."""
    shapes = ((4, 8, 8, 8),) if device.toy else TIMED
    for shape in shapes:
        for dtype, layout in (
            (torch.float32, torch.contiguous_format),
            (torch.bfloat16, torch.contiguous_format),
            (torch.bfloat16, torch.channels_last),
        ):
            name = f"{shape}, {str(dtype).removeprefix('torch.')}{', channels last' * (layout is torch.channels_last)}"
            for training in (True, False):
                what = f"{'training' if training else 'eval'}, {name}"
                yield Case(f"IEBN, {what}", partial(_time, device, shape, dtype, layout, training, what))


def _time(
    device: Device,
    shape: Sequence[int],
    dtype: torch.dtype,
    layout: torch.memory_format,
    training: bool,
    what: str,
) -> list[Row]:
    x = device.randn(*shape).to(dtype).contiguous(memory_format=layout)
    upstream = device.randn(*shape, seed=1).to(dtype).contiguous(memory_format=layout)

    def run(layer: nn.Module) -> Callable[[], object]:
        layer.to(device.torch).train(training)
        if not training:
            return lambda: layer(x)
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        wanted = [given, *layer.parameters()]
        # as autocast has it: half-precision features, float32 parameters
        return lambda: torch.autograd.grad(layer(given), wanted, upstream.to(dtype), allow_unused=True)

    layers = {
        "BatchNorm": nn.BatchNorm2d(shape[1]),
        "IEBN": IEBN2d(shape[1]),
        "published": Published(shape[1]),
    }
    runs = {name: run(layer) for name, layer in layers.items()}
    if dtype is not torch.float32:
        del runs["published"]  # its output is float32
    with torch.no_grad() if not training else torch.enable_grad():
        times = alternate(device, runs, 3 * device.rounds, repeat=4)
    rivals = (
        {"published formula": ratio(times["published"], times["BatchNorm"])} if "published" in times else {}
    )
    return [Row("IEBN", what, "x BatchNorm", ratio(times["IEBN"], times["BatchNorm"]), rivals)]
