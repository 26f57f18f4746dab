"""Time what mixing costs in Chainer.

    python benchmarks/mixing_chainer.py [--quick]

Ways to do the same take turns in one process; medians and quartiles of the ratios are shown. Promised: mixing
takes at most 3 % of a training step. A step's own ratio wavers on a shared machine: `share` times the mixing of
the largest feature by itself, forward and backward, and divides by the plain step.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import_module("mixlayers.chainer")  # before chainer, which it helps to be imported

import chainer.functions as F  # noqa: E402
import chainer.links as L  # noqa: E402
import numpy as np  # noqa: E402
from chainer import Chain, Variable  # noqa: E402
from parts.report import main  # noqa: E402
from parts.timing import Row, Scale, Spread, interleave, ratio  # noqa: E402

from mixlayers import CutMix, ManifoldMixup, Method, PatchUp  # noqa: E402
from mixlayers.chainer import Classifier  # noqa: E402
from mixlayers_chainer._blend import Partners, blend  # noqa: E402


class Network(Chain):
    """A small residual network for 32x32 images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        with self.init_scope():
            self.stage1, self.stage2 = Stage(width, 1), Stage(2 * width, 2)
            self.stage3, self.head = Stage(4 * width, 2), L.Linear(4 * width, 10)

    def forward(self, x: Any) -> Variable:
        return self.head(F.mean(self.stage3(self.stage2(self.stage1(x))), axis=(2, 3)))


class Stage(Chain):
    """Three convolutions, the last two with a shortcut."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        with self.init_scope():
            self.enter = L.Convolution2D(None, width, 3, stride, 1)
            self.conv1, self.conv2 = (L.Convolution2D(width, width, 3, 1, 1) for _ in range(2))
            self.norm1, self.norm2 = L.BatchNormalization(width), L.BatchNormalization(width)

    def forward(self, x: Any) -> Variable:
        h = F.relu(self.enter(x))
        return F.relu(h + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(h))))))


def step_rows(scale: Scale) -> list[Row]:
    """A training step, mixed and plain: forward, loss, backward; the accuracy as in L.Classifier."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((scale.batch // 4, 3, scale.size, scale.size), dtype=np.float32)
    y = rng.integers(10, size=len(x)).astype(np.int32)
    methods: dict[str, tuple[Method, Any]] = {
        "Manifold Mixup": (ManifoldMixup(), ["input", "stage1", "stage2"]),
        "CutMix": (CutMix(), "auto"),
        "PatchUp soft": (PatchUp("soft"), ["input", "stage1", "stage2"]),
    }
    work: dict[str, Callable[[], object]] = {"plain": Steps(L.Classifier(Network(scale.width // 2)), x, y)}
    for name, (method, layers) in methods.items():
        work[name] = Steps(Classifier(Network(scale.width // 2), method, layers), x, y)
    times = interleave(work, 2 * scale.steps)
    rows = []
    for name, (method, _) in methods.items():
        spread = ratio(times[name], times["plain"])
        rows.append(Row("step", f"{name}, batch {len(x)}", "x plain", spread))
        shape = (len(x), scale.width // 2, scale.size, scale.size)  # after stage1
        alone = Backward(mixing(method, shape), *feature(shape))
        taken = ratio(interleave({"": alone}, 2 * scale.steps, repeat=5)[""], times["plain"])
        rows.append(Row("share", f"{name}, of {'x'.join(map(str, shape))}", "of a step", taken, limit=0.03))
    return rows


def feature(shape: tuple[int, ...]) -> tuple[Variable, Any]:
    """A feature, and the gradient that comes back."""
    return Variable(np.random.default_rng(0).standard_normal(shape, dtype=np.float32)), np.ones(
        shape, np.float32
    )


def mixing(method: Method, shape: tuple[int, ...]) -> Callable[[Variable], Variable]:
    """What a step does with one feature: bring the plan to its shape, and blend."""
    plan = method.plan(step=0, batch_size=shape[0], places=("stage1",))
    partners = Partners(plan.perm)
    return lambda x: blend(x, plan.blend(shape), partners)


class Steps:
    """A training step of a classifier, again and again."""

    def __init__(self, model: Chain, x: Any, y: Any) -> None:
        self.model, self.x, self.y = model, x, y

    def __call__(self) -> None:
        self.model.cleargrads()
        self.model(self.x, self.y).backward()


def node_rows(scale: Scale) -> list[Row]:
    """The backward pass through one mixed feature: the function node, indexing, and permutation."""
    rows = []
    for shape in ((scale.batch, 4 * scale.width, 8, 8), (scale.batch // 2, scale.width, 32, 32)):
        x, upstream = feature(shape)
        plan = ManifoldMixup().plan(step=0, batch_size=shape[0])
        perm, lam = plan.perm.astype(np.int32), plan.lam
        ways: dict[str, Callable[[Variable], Variable]] = {
            "node": mixing(ManifoldMixup(), shape),
            "F.get_item": lambda x, perm=perm, lam=lam: lam * x + (1 - lam) * F.get_item(x, perm),
            "F.permutate": lambda x, perm=perm, lam=lam: lam * x + (1 - lam) * F.permutate(x, perm),
        }
        values = [way(x).array for way in ways.values()]
        if not all(np.allclose(value, values[0], atol=1e-6) for value in values):
            raise SystemExit("the ways to mix disagree: these timings mean nothing")
        for part, kind in (("forward and backward", Backward), ("backward", BackwardAlone)):
            times = interleave({name: kind(way, x, upstream) for name, way in ways.items()}, scale.rounds)
            rivals = {name: ratio(times[name], times["node"]) for name in ways if name != "node"}
            ours = Spread.of([1000 * one for one in times["node"]])
            rows.append(Row(part, "x".join(map(str, shape)), "ms; rivals: x ours", ours, rivals))
    return rows


class Backward:
    """Forward and backward through one way to mix."""

    def __init__(self, way: Callable[[Variable], Variable], x: Variable, upstream: Any) -> None:
        self.way, self.x, self.upstream = way, x, upstream

    def __call__(self) -> None:
        self.x.cleargrad()
        y = self.way(self.x)
        y.grad = self.upstream
        y.backward()


class BackwardAlone(Backward):
    """Backward through one forward, again and again."""

    def __init__(self, way: Callable[[Variable], Variable], x: Variable, upstream: Any) -> None:
        super().__init__(way, x, upstream)
        self.y = way(x)

    def __call__(self) -> None:
        self.x.cleargrad()
        self.y.grad = self.upstream
        self.y.backward()


if __name__ == "__main__":
    main({"step": step_rows, "node": node_rows}, ("chainer", "numpy"))
