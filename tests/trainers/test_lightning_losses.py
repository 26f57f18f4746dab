"""Losses that are more than a cross-entropy: refused where one is recognised inside, and right where they are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mixlayers import ManifoldMixup, MixingError
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import METHOD, PLACES, hooks
from tests.trainers.lightning_scene import NOISE, Functional, by_hand, inventory, loader, made, same, trainer

pytestmark = pytest.mark.filterwarnings(NOISE)


class Focal(Functional):
    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        each = F.cross_entropy(output, y, reduction="none")
        return ((1 - torch.exp(-each)) ** 2 * each).mean()


class Balanced(Functional):
    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        weight = torch.linspace(1, 2, 10)
        return (weight[y] * nn.CrossEntropyLoss(reduction="none")(output, y)).mean()


class Legacy(Functional):
    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(output.log_softmax(1), y, None, None, -100, False).mean()


@pytest.mark.filterwarnings("ignore:size_average and reduce args will be deprecated")
@pytest.mark.parametrize("kind", [Focal, Balanced, Legacy])
def test_parts_of_another_loss_are_refused_and_the_whole_can_be_named(tmp_path: Path, kind: Any) -> None:
    module = made(kind)
    before = inventory(module)
    with pytest.raises(
        MixingError, match=r'reduction="none" it is a part of another .*, Mixing\(loss="my_loss"\)'
    ):
        trainer(tmp_path, Mixing(METHOD, PLACES)).fit(module, loader())
    assert inventory(module) == before and hooks(module) == 0

    class Checks(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            target, output = mixing.mixer.target_for(batch[1], outputs["output"]), outputs["output"]
            first, second = (kind.computed(module, output, y) for y in (target.y, target.partner))
            torch.testing.assert_close(outputs["loss"], target.lam * first + target.s * second)

    module, mixing = made(kind), Mixing(METHOD, PLACES, loss="computed")
    trainer(tmp_path, mixing, Checks()).fit(module, loader())
    assert mixing.state_dict()["step"] == 8


def test_unmixed_parts_of_a_loss_are_nobodys_business(tmp_path: Path) -> None:
    class Other(Functional):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(64, 10)

        def training_step(self, batch: Any, index: int) -> Tensor:
            each = F.cross_entropy(self.other(batch[0]), batch[1], reduction="none")
            output = self.net(batch[0])
            assert F.cross_entropy(output.detach(), batch[1], reduction="none").shape == each.shape, (
                "a metric"
            )
            return F.cross_entropy(output, batch[1]) + each.mean()

    trainer(tmp_path, Mixing(METHOD, PLACES, net="net")).fit(made(Other), loader())


def test_lam_per_sample_needs_the_loss_named(tmp_path: Path) -> None:
    class Each(Functional):
        def each(self, output: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(output, y, reduction="none")

        def computed(self, output: Tensor, y: Tensor) -> Tensor:
            return self.each(output, y).mean()

    method = ManifoldMixup(0.5, lam_per="sample")
    with pytest.raises(MixingError, match=r"lam is drawn per sample.*one value per sample.*loss="):
        trainer(tmp_path, Mixing(method, PLACES)).fit(made(Functional), loader())
    mixing = Mixing(method, PLACES, loss="each")
    trainer(tmp_path, mixing).fit(made(Each), loader())
    assert mixing.state_dict()["step"] == 8


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_loss_that_is_recomputed_must_be_named(tmp_path: Path, reentrant: bool) -> None:
    class Recomputed(Functional):
        def computed(self, output: Tensor, y: Tensor) -> Tensor:
            return checkpoint(lambda output: self.loss_of(output, y), output, use_reentrant=reentrant)

        def loss_of(self, output: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(output, y)

    with pytest.raises(MixingError, match=r"inside an activation checkpoint.*loss="):
        trainer(tmp_path, Mixing(METHOD, PLACES)).fit(made(Recomputed), loader())
    if not reentrant:
        module = made(Recomputed)
        trainer(tmp_path, Mixing(METHOD, PLACES, loss="loss_of")).fit(module, loader())
        assert same(module.net, by_hand())
