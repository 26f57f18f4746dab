"""The blend and the PatchUp mask by themselves, against additions and one pooling of the same size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from parts.rivals import usual_cutmix, usual_mixup, usual_soft, usual_where
from parts.timing import Row, Scale, interleave, ratio
from torch import Tensor

from mixlayers import CutMix, ManifoldMixup, PatchUp
from mixlayers._core.plan.masks import Blocks
from mixlayers_torch._blend import blend
from mixlayers_torch._transfer import Partners

BLEND_LIMIT = 1.6
MASK_LIMIT = 0.1


def blend_rows(scale: Scale) -> list[Row]:
    """Forward and backward of a blend against two additions."""
    shapes = [
        (scale.batch, scale.width, scale.size, scale.size),
        (scale.batch, 2 * scale.width, scale.size // 2, scale.size // 2),
    ]
    return [row for shape in shapes for row in _blends(shape, scale.rounds)]


def _blends(shape: tuple[int, ...], rounds: int) -> list[Row]:
    x = torch.randn(shape, requires_grad=True)
    fixed, gradient = torch.randn(shape), torch.randn(shape)

    def both(mix: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(mix(x), x, gradient)

    def two_additions() -> None:
        gradient + fixed
        gradient + fixed

    methods = {
        "one lam": ManifoldMixup(),
        "lam per sample": ManifoldMixup(lam_per="sample"),
        "CutMix box": CutMix(),
        "PatchUp hard": PatchUp(),
        "PatchUp soft": PatchUp(mode="soft"),
    }
    work: dict[str, Callable[[], object]] = {"additions": two_additions}
    for name, method in methods.items():
        plan = method.plan(step=1, batch_size=shape[0], places=("layer",))
        how, partners = plan.blend(shape), Partners(plan.perm)
        work[name] = both(partial(blend, how=how, partners=partners))
        work[f"usual {name}"] = both(_usual(how, partners.on(x.device)[0]))
    times = interleave(work, rounds)
    return [
        Row(
            "blend",
            f"{name}, {shape}",
            "x 2 adds",
            ratio(times[name], times["additions"]),
            {"usual form": ratio(times[f"usual {name}"], times["additions"])},
            BLEND_LIMIT if name == "one lam" else None,
        )
        for name in methods
    ]


def _usual(how: Any, perm: Tensor) -> Callable[[Tensor], Tensor]:
    """The same blend, written plainly."""
    if how.box is not None:
        return lambda x: usual_cutmix(x, perm, how.box)
    lam = torch.tensor(how.lam).view(-1, 1, 1, 1) if isinstance(how.lam, np.ndarray) else how.lam
    if how.mask is None:
        return lambda x: usual_mixup(x, perm, lam)
    mask = torch.from_numpy(how.mask)
    return lambda x: usual_soft(x, perm, mask, lam) if lam else usual_where(x, perm, mask)


def mask_rows(scale: Scale) -> list[Row]:
    """A PatchUp mask, drawn and grown, against one pooling of a map of its size."""
    width, size = scale.width, scale.size
    sizes = [(width, size), (2 * width, size // 2)]
    if scale.more:
        sizes += [(4 * width, size // 4), (8 * width, 7), (4 * width, 56)]
    return [
        _mask_row(channels, side, 4 * scale.rounds, None if number else MASK_LIMIT)
        for number, (channels, side) in enumerate(sizes)
    ]


def _mask_row(channels: int, side: int, rounds: int, limit: float | None) -> Row:
    rng = np.random.default_rng(0)
    blocks, feature = Blocks(0.5, 7), torch.randn(1, channels, side, side)
    work: dict[str, Callable[[], object]] = {
        "pooling": lambda: F.max_pool2d(feature, 7, 1, 3),
        "mask": lambda: blocks.draw(rng, channels, (side, side)),
    }
    times = interleave(work, rounds)
    what = f"block 7, ({channels}, {side}, {side})"
    return Row("mask", what, "x max_pool2d", ratio(times["mask"], times["pooling"]), limit=limit)
