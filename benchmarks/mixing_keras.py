"""Time what mixing costs in Keras, on each backend that is installed, in a process of its own.

    python benchmarks/mixing_keras.py [--quick] [--parts jax torch tensorflow]

Steps of equal models, mixed and plain, take turns in one process; medians and quartiles of the ratios are shown.
Promised: a mixed step takes at most 1.03 times a plain one on JAX, 1.08 times on TensorFlow, 1.10 times on PyTorch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "KERAS_BACKEND", next(filter(find_spec, ("jax", "torch", "tensorflow")))
)  # before keras comes

import keras
import numpy as np
from keras import layers
from parts.report import main
from parts.timing import Row, Scale, interleave, ratio

from mixlayers import CutMix, ManifoldMixup, Method, PatchUp
from mixlayers.keras import wrap

BACKENDS = [name for name in ("jax", "torch", "tensorflow") if find_spec(name)]
LIMITS = {"jax": 1.03, "tensorflow": 1.08, "torch": 1.10}


def network(scale: Scale) -> keras.Model:
    """A small residual network for images."""
    keras.utils.set_random_seed(0)
    inputs = h = keras.Input((scale.size, scale.size, 3))
    for stage in (1, 2, 3):
        width = scale.width // 4 * 2**stage
        h = layers.Conv2D(width, 3, strides=1 if stage == 1 else 2, padding="same", activation="relu")(h)
        inner = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same")(h))
        inner = layers.Conv2D(width, 3, padding="same")(layers.ReLU()(inner))
        h = layers.Activation("relu", name=f"stage{stage}")(layers.Add()([h, inner]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(h)))


class Steps:
    """A training step, again and again."""

    def __init__(self, model: keras.Model, x: Any, y: Any) -> None:
        self.model, self.x, self.y = model, x, y
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3), loss)

    def __call__(self) -> None:
        self.model.train_on_batch(self.x, self.y)


def step_rows(scale: Scale) -> list[Row]:
    """A training step, mixed at one place, and plain."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((scale.batch // 2, scale.size, scale.size, 3), dtype=np.float32)
    y = rng.integers(10, size=len(x))
    methods: dict[str, tuple[Method, str]] = {
        "Manifold Mixup": (ManifoldMixup(), "stage1"),
        "CutMix": (CutMix(), "auto"),
        "PatchUp soft": (PatchUp("soft"), "stage1"),
    }
    work: dict[str, Callable[[], object]] = {"plain": Steps(network(scale), x, y)}
    for name, (method, place) in methods.items():
        work[name] = Steps(wrap(network(scale), method, place), x, y)
    times = interleave(work, 4 * scale.steps)
    backend = keras.config.backend()
    return [
        Row(
            "step",
            f"{name} on {backend}, batch {len(x)}",
            "x plain",
            ratio(times[name], times["plain"]),
            limit=LIMITS[backend],
        )
        for name in methods
    ]


def rows_on(backend: str, scale: Scale) -> list[Row]:
    """Those of one backend."""
    if backend == keras.config.backend():
        return step_rows(scale)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        asked = [word for word in sys.argv[1:] if word in ("--quick", "--tiny")]
        command = [sys.executable, sys.argv[0], *asked, "--parts", backend, "--out", str(out)]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return [Row.from_dict(row) for row in json.loads(out.read_text(encoding="utf-8"))["rows"]]


if __name__ == "__main__":
    main({name: partial(rows_on, name) for name in BACKENDS}, ("keras", "numpy", *BACKENDS))
