"""Mixing on the device is the oracle's, in each precision and layout; it never waits; it travels with nets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from device.cases import Case, LeftOut
from device.machine import Device
from torch import Tensor, nn

from mixlayers import CutMix, DropBlock, ManifoldMixup, Method, Mixup, PatchUp
from mixlayers.torch import cross_entropy, mix, wrap
from tests.support import reference
from tests.torch.networks import Net

METHODS: tuple[Method, ...] = (
    Mixup(),
    Mixup(lam_per="sample"),
    CutMix(),
    CutMix(lam_per="sample"),
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample"),
    PatchUp("hard", block_size=3),
    PatchUp("soft", block_size=3),
    PatchUp("soft", lam_per="sample", block_size=3),
)
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""Of one product and one sum, of numbers of a few units."""

SHAPES = ((6, 3, 8, 8), (5, 7), (4, 3, 5, 6, 4), (32, 64, 32, 32))
STEPS = 4


def mixing(device: Device) -> Iterator[Case]:
    """Values and gradients of each method."""
    for dtype in ROUNDING:
        name = str(dtype).removeprefix("torch.")
        yield Case(f"values and gradients are the oracle's, {name}", partial(_equals_oracle, device, dtype))
    yield Case("a partner's NaN stays under the mask", partial(_nan_stays, device))


def no_wait(device: Device) -> Iterator[Case]:
    """A step puts work into the queue and never waits for it."""
    for method in (*METHODS, DropBlock()):
        yield Case(f"a step never waits, {method}", partial(_never_waits, device, method))
    yield Case("the step that is watched does wait where it should", partial(_waiting_is_seen, device))


def _equals_oracle(device: Device, dtype: torch.dtype) -> str:
    number = 0
    shapes = SHAPES[:-1] if device.toy else SHAPES
    for method in METHODS:
        for shape in shapes:
            if isinstance(method, CutMix) and len(shape) == 2:
                continue
            layouts = [torch.contiguous_format]
            layouts += [torch.channels_last] * (len(shape) == 4) + [torch.channels_last_3d] * (
                len(shape) == 5
            )
            for layout in layouts:
                _compare(device, method, shape, dtype, layout)
                number += 1
    return f"{number} cases"


def _compare(
    device: Device, method: Method, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = device.randn(*shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
    upstream = device.randn(*shape, seed=1).to(dtype)
    mixed, plan = _mixed(x, method)
    mixed.backward(upstream)
    how = plan.blend(shape)
    lam = np.float64(how.lam) if isinstance(how.lam, float) else how.lam
    where = f"{method}, {shape}, {layout}"
    near = partial(np.testing.assert_allclose, rtol=0, atol=8 * ROUNDING[dtype], err_msg=where)
    near(on_host(mixed), reference.mix(on_host(x), plan.perm, lam, how.mask))
    assert x.grad is not None
    near(on_host(x.grad), reference.mix_backward(on_host(upstream), plan.perm, lam, how.mask))
    assert mixed.dtype is dtype and mixed.device == x.device, where
    assert mixed.is_contiguous(memory_format=layout), where


def _mixed(x: Tensor, method: Method) -> tuple[Tensor, Any]:
    """A batch mixed by a method, at the input or as a hidden layer's output, and the plan."""
    y = torch.arange(len(x), device=x.device) % 3
    if not method.hidden:
        mixed, target = mix(x, y, method, step=3)
        return mixed, target.plan
    model = wrap(nn.Sequential(nn.Identity()), method, "0", trust=True)
    mixed, target = model(x, target=y)
    assert target.partner.device == y.device
    return mixed, target.plan


def on_host(x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A tensor's values, float64."""
    return np.array(x.detach().double().cpu())


def _nan_stays(device: Device) -> None:
    for method in (
        CutMix(),
        CutMix(lam_per="sample"),
        PatchUp("hard", block_size=3),
        PatchUp("soft", block_size=3),
    ):
        x = device.randn(6, 3, 8, 8)
        x[1], x[2] = torch.nan, torch.inf
        mixed, plan = _mixed(x, method)
        outside = ~np.broadcast_to(plan.blend(x.shape).mask, x.shape)
        np.testing.assert_array_equal(on_host(mixed)[outside], on_host(x)[outside])


def trained(device: Device, model: nn.Module, size: int = 8) -> Callable[[], Tensor]:
    """One step of a wrapped model after another: forward, loss, backward, update; returns the loss."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = device.randn(size, 3, 16, 16), device.labels(size, 4)

    def step() -> Tensor:
        loss = cross_entropy(*model(x, target=y))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def _never_waits(device: Device, method: Method) -> str:
    step = trained(device, wrap(Net().to(device.torch), method))
    for _ in range(8):  # the audit, and its repetitions at forwards 2, 4 and 8, look at values
        step()
    with device.never_waits():
        for _ in range(STEPS):
            step()
    return "" if device.cuda else "ran; only a GPU has a queue to wait for"


def _waiting_is_seen(device: Device) -> None:
    if not device.cuda:
        raise LeftOut("the CPU has no queue")
    total = device.randn(4).sum()
    try:
        with device.never_waits():
            total.item()
    except RuntimeError:
        return
    raise AssertionError("an item() that waits was not refused, so that no step above proves anything")


def by_hand(model: Net, plan: Any, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a step of tests/torch/networks.py whose plan is known, in PyTorch's own operations."""
    perm, s = torch.tensor(plan.perm, device=x.device), 0.0
    for place, part in (("input", nn.Identity()), *((name, getattr(model, name)) for name in PLACES)):
        x = part(x)
        if place == plan.place:
            how = plan.blend(tuple(x.shape))
            both = how.lam * x + (1 - how.lam) * x[perm]
            x = both if how.mask is None else torch.where(torch.tensor(how.mask, device=x.device), both, x)
            s = how.s
    output = model.head(x.mean((2, 3))).float()
    loss = nn.functional.cross_entropy
    return (1 - s) * loss(output, y) + s * loss(output, y[perm])


PLACES = ("stem", "layer1", "layer2", "layer3")


def pair(device: Device, method: Method, **options: Any) -> tuple[Any, Any]:
    """Two nets with equal weights, the first of them wrapped."""
    torch.manual_seed(0)
    plain = Net(**options).to(device.torch)
    return wrap(copy.deepcopy(plain), method, ["input", "layer1", "layer2"], trust=True), plain


def same_gradients(ours: nn.Module, theirs: nn.Module, tolerance: float) -> None:
    """Of all parameters, to a share of the largest."""
    wanted = dict(theirs.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in wanted.values() if p.grad is not None)
    for name, p in ours.named_parameters():
        other = wanted[name.removeprefix("_orig_mod.").removeprefix("module.")].grad
        assert p.grad is not None and other is not None, name
        off = float((p.grad.float() - other.float()).abs().max())
        assert off <= tolerance * largest, f"{name}: {off:.2g} off, the largest gradient is {largest:.2g}"
