"""Time IEBN against nn.BatchNorm2d and against the published formula, and count what backward keeps.

    python benchmarks/iebn.py [--quick] [--threads 2] [--out iebn.json] [--record]

Ratios of rivals that take turns in one process, medians with quartiles. The published formula is written plainly, as
the authors' code has it. Training is also timed where malloc does not map large blocks afresh at each allocation.
"compiled": by torch.compile, layer by layer, the rest of the model being as it is. "drawn": twelve shapes, others in
each run. "without the library": as where there is no compiler, in PyTorch's own operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from parts.report import main
from parts.resnet import ResNet18
from parts.timing import TINY, Row, Scale, Spread, interleave, ratio
from torch import Tensor, nn

from mixlayers_torch._iebn import native
from mixlayers_torch._iebn.layer import IEBN2d

LARGE = [(128, 64, 32, 32), (64, 256, 16, 16), (32, 64, 56, 56), (16, 128, 28, 28)]
OTHERS = [(256, 512, 4, 4), (100, 64, 8, 8)]
SMALL = [(8, 3, 17, 13), (2, 16, 8, 8), (16, 32, 8, 8), (32, 64, 5, 5), (16, 16, 28, 28)]


class Published(nn.BatchNorm2d):
    """The formula of the paper, step by step, parameters of shape (1, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        for name, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("weight_readjust", 0.0),
            ("bias_readjust", -1.0),
        ):
            self.register_parameter(name, nn.Parameter(torch.full((1, channels, 1, 1), value)))

    def forward(self, x: Tensor) -> Tensor:
        out = F.batch_norm(
            x, self.running_mean, self.running_var, None, None, self.training, self.momentum, self.eps
        )
        gap = F.adaptive_avg_pool2d(x, 1)
        attention = torch.sigmoid(self.weight_readjust * gap + self.bias_readjust)
        return out * (self.weight * attention) + self.bias


class WithoutLibrary(IEBN2d):
    """As where there was no compiler."""

    def forward(self, input: Tensor) -> Tensor:
        found, native.library = native.library, lambda: None
        try:
            return super().forward(input)
        finally:
            native.library = found


KINDS: dict[str, Callable[[int], nn.Module]] = {
    "ours": IEBN2d,
    "BatchNorm": nn.BatchNorm2d,
    "published": Published,
}


def _compiled(kind: Callable[[int], nn.Module], dynamic: bool | None = None) -> Callable[[int], nn.Module]:
    def made(channels: int) -> nn.Module:
        norm = kind(channels)
        norm.compile(dynamic=dynamic)
        return norm

    return made


COMPILED: dict[str, Callable[[int], nn.Module]] = {
    "ours": _compiled(IEBN2d),
    "BatchNorm": nn.BatchNorm2d,
    "BatchNorm, compiled": _compiled(nn.BatchNorm2d),
    "published, compiled": _compiled(Published),
}


def training_rows(scale: Scale) -> Iterator[Row]:
    """Forward and backward in training."""
    for shape in [(4, 4, 8, 8)] if scale is TINY else [*LARGE, *OTHERS]:
        yield from _against("train", shape, scale, 0.85)


def drawn_rows(scale: Scale) -> Iterator[Row]:
    """Shapes that nobody has tuned: 1e5 to 2e7 elements, any side."""
    rng, rows = np.random.default_rng(), []
    for _ in range(1 if scale is TINY else 12):
        wanted, side, channels = (10 ** rng.uniform(5, 7.3), rng.integers(3, 65), 2 ** rng.uniform(3, 9))
        size = max(2, round(wanted / (side * side * channels)))
        rows += _against("drawn", (min(size, 512), int(channels), int(side), int(side)), scale, None)
    yield from rows
    medians = [row.ours.median for row in rows]
    middle = Spread.of(medians if len(medians) > 1 else medians * 2)
    yield Row("drawn", f"the median of {len(rows)} shapes", "x BatchNorm", middle, {}, 0.85)


def library_rows(scale: Scale) -> Iterator[Row]:
    """Without the library it must not be slower than the formula as the authors write it."""
    kinds = {**KINDS, "ours": WithoutLibrary}
    for shape in SMALL[:1] if scale is TINY else [*LARGE, *OTHERS, *SMALL]:
        yield from _against("without the library", shape, scale, None, 1.05, kinds=kinds)


def layout_rows(scale: Scale) -> Iterator[Row]:
    """channels_last and bfloat16."""
    for shape in [(4, 4, 8, 8)] if scale is TINY else [*LARGE, *OTHERS]:
        yield from _against("channels_last", shape, scale, 1.2, last=True)
        yield from _against("bfloat16", shape, scale, 1.1, dtype=torch.bfloat16)
        if scale.more:
            yield from _against(
                "bfloat16, channels_last", shape, scale, None, last=True, dtype=torch.bfloat16
            )


def eval_rows(scale: Scale) -> Iterator[Row]:
    """The forward in eval mode, without gradients."""
    for shape in [(4, 4, 8, 8)] if scale is TINY else [*LARGE, *OTHERS]:
        yield from _against("eval", shape, scale, 1.8 if shape in OTHERS else 1.3, training=False)


def compiled_rows(scale: Scale) -> Iterator[Row]:
    """The layer compiled, `norm.compile()`, against BatchNorm as it is; a compiled BatchNorm stands beside."""
    for shape in [(4, 4, 8, 8)] if scale is TINY else [*LARGE, *OTHERS]:
        torch.compiler.reset()
        yield from _against("compiled, train", shape, scale, 0.9, kinds=COMPILED)
        if scale is not TINY:
            yield from _against("compiled, channels_last", shape, scale, 1.3, last=True, kinds=COMPILED)
            yield from _against("compiled, bfloat16", shape, scale, 1.3, dtype=torch.bfloat16, kinds=COMPILED)
            yield from _against("compiled, eval", shape, scale, 1.3, training=False, kinds=COMPILED)


def small_rows(scale: Scale) -> Iterator[Row]:
    """Small tensors: what matters is not to be slower than the published formula."""
    for shape in SMALL[:1] if scale is TINY else SMALL:
        yield from _against("small", shape, scale, None, 0.9, repeat=20)


def _against(
    part: str,
    shape: tuple[int, ...],
    scale: Scale,
    limit: float | None,
    limit_published: float | None = None,
    *,
    training: bool = True,
    last: bool = False,
    dtype: torch.dtype = torch.float32,
    repeat: int = 1,
    kinds: dict[str, Callable[[int], nn.Module]] = KINDS,
) -> Iterator[Row]:
    layout = torch.channels_last if last else torch.contiguous_format
    x, g = (torch.randn(shape).to(dtype).contiguous(memory_format=layout) for _ in range(2))
    x.requires_grad_(training)

    def work(norm: nn.Module) -> Callable[[], None]:
        norm.train(training)
        parameters = list(norm.parameters())

        def both() -> None:
            torch.autograd.grad(norm(x), [x, *parameters], g)

        def forward() -> None:
            with torch.no_grad():
                norm(x)

        return both if training else forward

    many = min(20, max(1, 2**21 // x.numel())) if repeat == 1 else repeat
    rounds = scale.rounds * (2 if scale.more else 1)
    times = interleave({name: work(kind(shape[1])) for name, kind in kinds.items()}, rounds, many)
    plain = {name: ratio(times[name], times["BatchNorm"]) for name in list(kinds)[2:]}
    what, ours = "x".join(map(str, shape)), ratio(times["ours"], times["BatchNorm"])
    yield Row(part, what, "x BatchNorm", ours, plain, limit)
    if limit_published is not None:
        against = ratio(times["ours"], times["published"])
        yield Row(part, what, "x published", against, {}, limit_published)


def kept_rows(scale: Scale) -> Iterator[Row]:
    """Bytes that the forward keeps for the backward."""
    for shape in [(4, 4, 8, 8)] if scale is TINY else [*LARGE, *OTHERS]:
        kept = {name: float(_kept(kind(shape[1]), shape)) for name, kind in KINDS.items()}
        ours, published = (Spread(*[kept[name] / kept["BatchNorm"]] * 3) for name in ("ours", "published"))
        what = "x".join(map(str, shape))
        limit = None if scale is TINY else 1.07
        yield Row("bytes kept", what, "x BatchNorm", ours, {"published": published}, limit)


def _kept(norm: nn.Module, shape: tuple[int, ...]) -> int:
    storages: dict[int, int] = {}  # each once

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = norm(torch.randn(shape, requires_grad=True))
    own = getattr(y.grad_fn, "found", None)  # what our passes keep is no tensor
    return sum(storages.values()) + (0 if own is None else own.found.kept.nbytes)


def step_rows(scale: Scale) -> Iterator[Row]:
    """A training step of ResNet-18 with every norm converted."""
    images = torch.randn(scale.batch, 3, scale.size, scale.size)
    labels = torch.randint(10, (scale.batch,))

    def work(kind: Callable[[int], nn.Module]) -> Callable[[], None]:
        model = ResNet18(scale.width)
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, name, kind(child.num_features))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step() -> None:
            optimiser.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimiser.step()

        return step

    torch.compiler.reset()
    kinds = KINDS if scale is TINY else {**KINDS, "compiled": _compiled(IEBN2d, dynamic=True)}
    times = interleave(
        {name: work(kind) for name, kind in kinds.items()}, scale.steps * (3 if scale.more else 1)
    )
    against = {name: ratio(taken, times["BatchNorm"]) for name, taken in times.items()}
    what, rivals = f"ResNet-18, batch {scale.batch}, width {scale.width}", {"published": against["published"]}
    yield Row("step", what, "x BatchNorm", against["ours"], rivals, 0.95)
    if "compiled" in against:
        yield Row("step", f"{what}, norms compiled", "x BatchNorm", against["compiled"], {}, 0.95)


PARTS = {
    "train": training_rows,
    "drawn": drawn_rows,
    "library": library_rows,
    "layout": layout_rows,
    "eval": eval_rows,
    "compiled": compiled_rows,
    "small": small_rows,
    "kept": kept_rows,
    "step": step_rows,
}


def start(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)


if __name__ == "__main__":
    main(PARTS, ("torch",), start, threads=2, tuned="train")
