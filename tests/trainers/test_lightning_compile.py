"""torch.compile in Lightning: the module that is fitted, or the net inside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import PLACES, Swap, hooks
from tests.trainers.lightning_scene import NOISE, Functional, Lit, Own, Probe, loader, made, net_of, trainer

pytestmark = pytest.mark.filterwarnings(NOISE)
BACKEND = "aot_eager"  # all of torch.compile but the code that it writes


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Named(Functional):
    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        return self.label_loss(output, y)

    def label_loss(self, output: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, y)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (Own, "module"),
        *((kind, how) for kind in (Lit, Functional, Named) for how in ("module", "net", "in place")),
    ],
)
def test_features_and_labels_are_both_swapped(tmp_path: Path, kind: Any, how: str) -> None:
    module = made(kind)
    net, fitted = net_of(module), module
    if how == "module":
        fitted = torch.compile(module, backend=BACKEND)
    elif how == "in place":
        net.compile(backend=BACKEND)
    else:
        module.net = torch.compile(net, backend=BACKEND)
    mixing = Mixing(Swap(), PLACES, loss="label_loss" if kind is Named else None)
    probe = Probe(mixing, net)
    trainer(tmp_path, mixing, probe).fit(fitted, loader())
    assert probe.steps == 8 and hooks(module) == 0
