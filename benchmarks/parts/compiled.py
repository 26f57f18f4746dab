"""A compiled training step with mixing against the same without."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from parts.resnet import ResNet18
from parts.timing import TINY, Row, Scale, interleave, ratio
from torch import nn

from mixlayers import ManifoldMixup, Method, PatchUp
from mixlayers.torch import cross_entropy, wrap

CLASSES = 10
LIMIT = 1.05
PLACES = ["input", "layer1", "layer2"]


def compiled_rows(scale: Scale) -> list[Row]:
    """ResNet-18 of half the width, compiled and then wrapped; compiling takes minutes."""
    batch, width = scale.batch // 2, scale.width // 2
    images, labels = torch.randn(batch, 3, scale.size, scale.size), torch.randint(CLASSES, (batch,))
    backend = "aot_eager" if scale is TINY else "inductor"

    def step(method: Method | None) -> Callable[[], None]:
        model: nn.Module = torch.compile(ResNet18(width, CLASSES), backend=backend, fullgraph=True)
        model = model if method is None else wrap(model, method, PLACES)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def run() -> None:
            if method is None:
                loss = F.cross_entropy(model(images), labels)
            else:
                loss = cross_entropy(*model(images, target=labels))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        return run

    methods: dict[str, Method | None] = {"plain": None, "Manifold Mixup": ManifoldMixup()}
    if scale is not TINY:
        methods |= {"PatchUp hard": PatchUp(), "PatchUp soft": PatchUp(mode="soft")}
    runs: dict[str, Callable[[], None]] = {}
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):  # one class, with and without hooks
        for name, method in methods.items():
            runs[name] = step(method)
            for _ in range(8 if method else 1):  # until each place has its graph
                runs[name]()
        times = interleave(runs, 3 * scale.rounds)
    return [
        Row(
            "compiled step",
            f"{name}, ResNet-18, width {width}, batch {batch}",
            "x compiled plain",
            ratio(times[name], times["plain"]),
            {},
            LIMIT,
        )
        for name in runs
        if name != "plain"
    ]
