"""Time what mixlayers.paddle costs: IEBN2D against nn.BatchNorm2D, and training steps of ResNet-18.

    python benchmarks/iebn_paddle.py [--quick] [--threads 1] [--out paddle.json]

Ratios of rivals that take turns in one process, medians with quartiles; of processor time, which another process on the
machine disturbs less. `formula` is IEBN2D without the library,
`article` the arithmetic of the class in article 004, as published.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.vision.models import resnet18
from parts.report import main
from parts.timing import TINY, Row, Scale, ratio

from mixlayers import ManifoldMixup, Method, Mixup, PatchUp
from mixlayers.paddle import IEBN2D, convert_iebn, cross_entropy, wrap
from mixlayers_paddle._iebn import native

SHAPES = [(128, 64, 32, 32), (64, 256, 16, 16), (32, 64, 56, 56), (256, 512, 4, 4), (100, 64, 8, 8)]
SMALL = [(16, 16, 16, 16), (8, 3, 17, 13)]
LIMIT, STEP_LIMIT = 1.5, 1.05
METHODS: dict[str, Method] = {
    "Mixup": Mixup(),
    "Manifold Mixup": ManifoldMixup(),
    "PatchUp hard": PatchUp(),
    "PatchUp soft": PatchUp(mode="soft"),
}


class Article(nn.BatchNorm2D):
    """Article 004's way: parameters (1, C, 1, 1), a mean over two axes, ones and zeros made at each call."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, weight_attr=False, bias_attr=False)
        starts = {"weight": 1.0, "bias": 0.0, "weight_readjust": 0.0, "bias_readjust": -1.0}
        for name, start in starts.items():
            value = nn.initializer.Constant(start)
            setattr(self, name, self.create_parameter([1, channels, 1, 1], default_initializer=value))

    def forward(self, x: Any) -> Any:
        attention = F.sigmoid(x.mean([2, 3], keepdim=True) * self.weight_readjust + self.bias_readjust)
        one, zero = paddle.ones([x.shape[1]]), paddle.zeros([x.shape[1]])
        xhat = F.batch_norm(x, self._mean, self._variance, one, zero, self.training)
        return xhat * (self.weight * attention) + self.bias


class Formula(IEBN2D):
    """As where there was no compiler."""

    def forward(self, input: Any) -> Any:
        found, native.library = native.library, lambda: None
        try:
            return super().forward(input)
        finally:
            native.library = found


KINDS: dict[str, Callable[[int], nn.Layer]] = {
    "ours": IEBN2D,
    "BatchNorm": nn.BatchNorm2D,
    "formula": Formula,
    "article": Article,
}


def interleave(
    work: Mapping[str, Callable[[], object]], rounds: int, repeat: int = 1
) -> dict[str, list[float]]:
    """Processor seconds of everything in turn, round after round."""
    names = list(work)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)  # nobody comes always first, or always after the same one
        for name in names[first:] + names[:first]:
            start = time.process_time()
            for _ in range(repeat):
                work[name]()
            if number:  # the first round warms up
                times[name].append(time.process_time() - start)
    return times


def training_rows(scale: Scale) -> Iterator[Row]:
    """Forward and backward in training."""
    shapes: dict[tuple[int, ...], float | None] = dict.fromkeys(SHAPES, LIMIT)
    if scale is TINY:
        shapes = {(4, 4, 8, 8): None}
    elif scale.more:
        shapes |= dict.fromkeys(SMALL)
    for shape, limit in shapes.items():
        x, gradient = paddle.randn(shape), paddle.randn(shape)
        x.stop_gradient = False

        def work(norm: nn.Layer, x: Any = x, gradient: Any = gradient) -> Callable[[], None]:
            def both() -> None:
                paddle.autograd.backward([norm(x)], [gradient])
                norm.clear_gradients(set_to_zero=False)
                x.clear_grad()

            return both

        many = min(20, max(1, 2**21 // x.size))
        times = interleave({name: work(kind(shape[1])) for name, kind in KINDS.items()}, scale.rounds, many)
        rivals = {name: ratio(times[name], times["BatchNorm"]) for name in ("formula", "article")}
        what, ours = "x".join(map(str, shape)), ratio(times["ours"], times["BatchNorm"])
        yield Row("train", what, "x BatchNorm", ours, rivals, limit)


def step_rows(scale: Scale) -> Iterator[Row]:
    """Whole training steps of paddle.vision's ResNet-18 at 64 pixels: mixed, and with every norm converted."""
    batch, side = min(scale.batch, 32), 32 if scale is TINY else 64
    images, labels = paddle.randn([batch, 3, side, side]), paddle.randint(0, 10, [batch])

    def work(prepare: Callable[[nn.Layer], object], mixed: bool = False) -> Callable[[], None]:
        paddle.seed(0)
        model = resnet18(num_classes=10)
        prepare(model)
        optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())

        def step() -> None:
            output, target = model(images, target=labels) if mixed else (model(images), labels)
            cross_entropy(output, target).backward()
            optimizer.step()
            optimizer.clear_grad()

        return step

    def mixing(method: Method) -> Callable[[], None]:
        return work(lambda model: wrap(model, method), mixed=True)

    cases = {"plain": work(lambda model: None), "IEBN": work(convert_iebn)}
    cases |= {name: mixing(method) for name, method in METHODS.items()}
    times = interleave(cases, scale.steps * 4)
    for name in cases:
        if name != "plain":
            what, limit = f"{name}, ResNet-18, batch {batch}", None if name == "IEBN" else STEP_LIMIT
            yield Row("step", what, "x plain", ratio(times[name], times["plain"]), {}, limit)


PARTS = {"train": training_rows, "step": step_rows}


def start(threads: int) -> None:
    warnings.filterwarnings("ignore", "When training, we now always track")
    paddle.set_device("cpu")
    paddle.set_flags({"FLAGS_paddle_num_threads": threads})
    paddle.seed(0)


if __name__ == "__main__":
    main(PARTS, ("paddlepaddle",), start)
