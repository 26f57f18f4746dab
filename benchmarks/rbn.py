"""Time RBN, training forward and backward on one CPU thread, as a ratio to each framework's own BatchNorm.

    OMP_NUM_THREADS=1 python benchmarks/rbn.py [--quick] [--parts torch paddle chainer nnx] [--out rbn.json]

The rivals take turns in one process; medians and quartiles of the ratios of processor time. "operations" is RBN where
there are no compiled passes: in the framework's own operations. `nnx` is Flax NNX under `jit`, which has no passes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from parts.report import main
from parts.timing import TINY, Row, Scale, interleave, ratio

SHAPES = [(128, 64, 32, 32), (64, 256, 16, 16), (256, 512, 4, 4), (100, 64, 8, 8)]
Work = Callable[[], object]


def torch_work(kind: str, x: Any, g: Any) -> Work:
    """A step of a norm, given by its name."""
    torch, face = import_module("torch"), import_module("mixlayers.torch")
    torch.set_num_threads(1)
    norm = getattr(face, f"{kind}2d", None) or getattr(torch.nn, f"{kind}2d")
    norm, given, gradient = norm(x.shape[1]), torch.from_numpy(x).requires_grad_(), torch.from_numpy(g)
    inputs = [given, *norm.parameters()]
    return lambda: torch.autograd.grad(norm(given), inputs, gradient)


def paddle_work(kind: str, x: Any, g: Any) -> Work:
    """The same."""
    paddle, face = import_module("paddle"), import_module("mixlayers.paddle")
    norm = getattr(face, f"{kind}2D", None) or getattr(paddle.nn, f"{kind}2D")
    norm, given, gradient = norm(x.shape[1]), paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(g)

    def step() -> None:
        norm.clear_gradients()
        given.clear_gradient()
        paddle.autograd.backward([norm(given)], [gradient])

    return step


def chainer_work(kind: str, x: Any, g: Any) -> Work:
    """The same."""
    face = import_module("mixlayers.chainer")  # before Chainer, which it makes importable
    chainer, links = import_module("chainer"), import_module("chainer.links")
    norm = getattr(face, kind, None) or links.BatchNormalization
    norm, given = norm(x.shape[1]), chainer.Variable(x)

    def step() -> None:
        norm.cleargrads()
        given.cleargrad()
        y = norm(given)
        y.grad = g
        y.backward()

    return step


def nnx_work(kind: str, x: Any, g: Any) -> Work:
    """The same, the channels last."""
    jax, nnx, face = (import_module(name) for name in ("jax", "flax.nnx", "mixlayers.nnx"))
    norm = getattr(face, kind, None) or nnx.BatchNorm
    norm = norm(x.shape[1], rngs=nnx.Rngs(0))
    given, gradient = (jax.numpy.asarray(np.moveaxis(each, 1, -1)) for each in (x, g))
    step = nnx.jit(nnx.grad(lambda norm, x: (norm(x) * gradient).sum(), argnums=(0, 1)))
    return lambda: jax.block_until_ready(step(norm, given))


def rows(framework: str, make: Callable[[str, Any, Any], Work], scale: Scale) -> Iterator[Row]:
    """A row a shape."""
    rng = np.random.default_rng(0)
    for shape in [(4, 4, 8, 8)] if scale is TINY else SHAPES:
        x, g = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        work = {kind: make(kind, x, g) for kind in ("RBN", "BatchNorm", "IEBN")}
        if framework != "nnx":
            work["operations"] = partial(_without_passes, framework, work["RBN"])
        times = interleave(work, scale.rounds, max(1, min(20, 2**21 // x.size)), time.process_time)
        base = times.pop("BatchNorm")
        rivals = {name: ratio(own, base) for name, own in times.items() if name != "RBN"}
        yield Row(framework, "x".join(map(str, shape)), "x BatchNorm", ratio(times["RBN"], base), rivals)


def _without_passes(framework: str, step: Work) -> None:
    native = import_module(f"mixlayers_{framework}._iebn.native")
    found = native.library
    setattr(native, "library", lambda: None)  # noqa: B010  # a module's attribute, found by name
    try:
        step()
    finally:
        setattr(native, "library", found)  # noqa: B010


MAKERS = {"torch": torch_work, "paddle": paddle_work, "chainer": chainer_work, "nnx": nnx_work}

if __name__ == "__main__":
    # read when JAX starts: one thread, as the others have
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    main({name: partial(rows, name, make) for name, make in MAKERS.items()}, ("torch", "numpy"))
