"""Time what mixing and IEBN cost in JAX.

    python benchmarks/mixing_jax.py [--quick] [--threads N]

Ways to do the same take turns in one process; medians and quartiles of the ratios are shown. Aimed at: a mixed step
takes at most 1.03 of a plain one, a plan 150 us on the host, a PatchUp mask 300 us. What is compiled was compiled
before the clock starts. Passes are the bytes that XLA says its compiled program moves, forward and backward, in sizes
of the feature.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from parts.report import main
from parts.timing import Row, Scale, Spread, interleave, ratio

from mixlayers import CutMix, ManifoldMixup, Method, PatchUp
from mixlayers.cli.jax_side import SmallResNet, one_thread
from mixlayers.jax import Plan, blend, cross_entropy
from mixlayers.nnx import IEBN, Mixer

HIDDEN = ["input", "layer1", "layer2"]
METHODS: dict[str, tuple[Method, Any]] = {
    "Manifold Mixup": (ManifoldMixup(), HIDDEN),
    "CutMix": (CutMix(), "auto"),
    "PatchUp soft": (PatchUp("soft"), HIDDEN),
}


def step_rows(scale: Scale) -> list[Row]:
    """A training step of a small ResNet, mixed and plain: the plan, forward, loss, backward, SGD."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((scale.batch // 2, scale.size, scale.size, 3), dtype=np.float32)
    y = rng.integers(10, size=len(x))
    work: dict[str, Callable[[], object]] = {"plain": Steps(scale, x, y)}
    work |= {name: Steps(scale, x, y, *given) for name, given in METHODS.items()}
    times = interleave(work, 4 * scale.steps)
    return [
        Row("step", f"{name}, batch {len(x)}", "x plain", ratio(times[name], times["plain"]), limit=1.03)
        for name in METHODS
    ]


@nnx.jit
def train(net: Any, optimizer: Any, x: Any, y: Any, plan: Plan | None) -> Any:
    """One step."""

    def loss(net: Any) -> Any:
        if plan is None:
            return cross_entropy(net(x), y)
        logits, target = net(x, target=y, plan=plan)
        return cross_entropy(logits, target)

    value, gradients = nnx.value_and_grad(loss)(net)
    optimizer.update(net, gradients)
    return value


class Steps:
    """A training step, again and again, each place's compiled before."""

    def __init__(
        self, scale: Scale, x: Any, y: Any, method: Method | None = None, layers: Any = "auto"
    ) -> None:
        self.net, self.x, self.y = SmallResNet(scale.width // 4, channels=3), jnp.asarray(x), jnp.asarray(y)
        self.optimizer = nnx.Optimizer(self.net, optax.sgd(0.01), wrt=nnx.Param)
        self.mixer = None if method is None else Mixer(self.net, method, layers, example=x)
        while self.mixer is not None and self.mixer.history.counts.keys() < {*self.mixer.places}:
            self()

    def __call__(self) -> None:
        plan = None if self.mixer is None else self.mixer.plan(len(self.y))
        jax.block_until_ready(train(self.net, self.optimizer, self.x, self.y, plan))


def blend_rows(scale: Scale) -> list[Row]:
    """One mixed feature, forward and backward: the own derivative, and autodiff's of a gather."""
    rows = []
    for shape in ((scale.batch, 32, 32, 16), (scale.batch, 16, 16, 64), (scale.batch, 8, 8, 256)):
        rng = np.random.default_rng(0)
        x, upstream = (jnp.asarray(rng.standard_normal(shape, dtype=np.float32)) for _ in range(2))
        plan = Plan.of(ManifoldMixup().plan(step=0, batch_size=shape[0], places=["here"]), None, -1)
        ways: dict[str, Callable[..., Any]] = {
            "own": lambda x, plan: blend(x, plan, "here"),
            "autodiff": lambda x, plan: plan.lam * x + (1 - plan.lam) * x[plan.perm],
        }
        both = {name: jax.jit(partial(_forward_and_backward, way)) for name, way in ways.items()}
        results = [run(x, plan, upstream) for run in both.values()]
        if not all(np.allclose(*pair, atol=1e-5) for pair in zip(*results, strict=True)):
            raise SystemExit("the ways to mix disagree: these timings mean nothing")
        work = {
            name: (lambda run=run, given=(x, plan, upstream): jax.block_until_ready(run(*given)))
            for name, run in both.items()
        }
        times = interleave(work, scale.rounds)
        ours = Spread.of([1000 * one for one in times["own"]])
        rivals = {"autodiff": ratio(times["autodiff"], times["own"])}
        rows.append(Row("blend", "x".join(map(str, shape)), "ms; rival: x ours", ours, rivals))
    return rows


def _forward_and_backward(way: Callable[..., Any], x: Any, plan: Plan, upstream: Any) -> tuple[Any, Any]:
    y, backward = jax.vjp(lambda x: way(x, plan), x)
    return y, backward(upstream)[0]


def host_rows(scale: Scale) -> list[Row]:
    """What a step's plan costs on the host; nothing of it waits for a device."""
    size, repeat = scale.batch, 20
    net = SmallResNet(scale.width // 4, channels=3)
    example = jax.ShapeDtypeStruct((size, scale.size, scale.size, 3), "float32")
    mixer = Mixer(net, ManifoldMixup(), HIDDEN, example=example)
    shape, places = (size, scale.width, scale.size, scale.size), ("layer1",)
    core = PatchUp().plan(step=0, batch_size=size, places=places)
    last = (size, *shape[2:], shape[1])
    work: dict[str, Callable[[], object]] = {
        f"plan of Manifold Mixup, N = {size}": lambda: mixer.plan(size),
        f"PatchUp's mask, {shape[1:]}": lambda: core.blend(shape),
        f"PatchUp's mask, channels last, {last[1:]}": lambda: core.blend(last, -1),
    }
    times = interleave(work, scale.rounds, repeat)
    return [
        Row("host", name, "us", Spread.of([1e6 * one for one in times[name]]), limit=limit)
        for name, limit in zip(work, (150.0, 300.0, 300.0), strict=True)
    ]


def iebn_rows(scale: Scale) -> list[Row]:
    """A layer in training, forward and backward: passes over memory as XLA counts them, and the time."""
    rows = []
    for shape in ((scale.batch, 32, 32, scale.width), (scale.batch, 8, 8, 4 * scale.width)):
        x = jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        compiled = {kind.__name__: compiled_norm(kind, x) for kind in (IEBN, nnx.BatchNorm)}
        counts = {name: passes(run, x) for name, (run, _) in compiled.items()}
        work = {
            name: (lambda run=run, given=given: jax.block_until_ready(run(*given)))
            for name, (run, given) in compiled.items()
        }
        times = interleave(work, scale.rounds)
        what = "x".join(map(str, shape))
        ours, theirs = (Spread(*[counts[name]] * 3) for name in ("IEBN", "BatchNorm"))
        rows.append(Row("IEBN passes", what, "of the feature", ours, {"BatchNorm": theirs}))
        rows.append(Row("IEBN time", what, "x BatchNorm", ratio(times["IEBN"], times["BatchNorm"])))
    return rows


def compiled_norm(kind: type, x: Any) -> tuple[Any, tuple[Any, ...]]:
    """A norm's forward and backward, compiled, and what it takes."""
    graph, state = nnx.split(kind(x.shape[-1], rngs=nnx.Rngs(0)))

    @jax.jit
    def run(state: Any, x: Any, upstream: Any) -> Any:
        def forward(state: Any, x: Any) -> Any:
            layer = nnx.merge(graph, state)
            return layer(x), nnx.state(layer, nnx.BatchStat)

        y, backward, statistics = jax.vjp(forward, state, x, has_aux=True)
        return y, statistics, backward(upstream)

    return run.lower(state, x, x).compile(), (state, x, x)


def passes(compiled: Any, x: Any) -> float:
    """How often a compiled program moves an array of x's size to or from memory."""
    return float(compiled.cost_analysis()["bytes accessed"]) / x.nbytes


def start(threads: int) -> None:
    """So many cores, before JAX starts to compute."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if threads == 1:
        one_thread()


if __name__ == "__main__":
    main(
        {"step": step_rows, "blend": blend_rows, "host": host_rows, "iebn": iebn_rows},
        ("jax", "flax", "numpy"),
        start,
        threads=1,
    )
