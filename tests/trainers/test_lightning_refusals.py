"""What Lightning would train wrongly, or not mix at all, is refused; what is no label is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixlayers import MixingError
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import (
    METHOD,
    PLACES,
    Swap,
    hooks,
)
from tests.trainers.lightning_scene import (
    NOISE,
    Functional,
    Lit,
    Own,
    by_hand,
    inventory,
    loader,
    made,
    same,
    trainer,
)

pytestmark = pytest.mark.filterwarnings(NOISE)


def test_losses_of_another_network_are_left_alone(tmp_path: Path) -> None:
    class Two(Functional):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(64, 10)

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            main = F.cross_entropy(input=2.0 * self.net(x).float().view(-1, 10), target=y)
            other = F.cross_entropy(self.other(x), y)
            logits = self.other(x).detach()
            assert torch.equal(other.detach(), F.cross_entropy(logits, y))
            return main + other

    trainer(tmp_path, Mixing(Swap(), PLACES, net="net")).fit(made(Two), loader())


def test_losses_of_features_are_not_taken_for_labels(tmp_path: Path) -> None:
    class Features(Functional):
        def computed(self, output: Tensor, y: Tensor) -> Tensor:
            return F.binary_cross_entropy_with_logits(output, output.flip(0).sigmoid())

    with pytest.raises(MixingError, match="no loss used the mixed target"):
        trainer(tmp_path, Mixing(METHOD, PLACES)).fit(made(Features), loader())


class Unused(Functional):
    def computed(self, output: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(output, F.one_hot(y, 10).float())


class Past(Functional):
    def predicted(self, x: Tensor) -> Tensor:
        return self.net.forward(x)


class Deaf(Own):
    def predicted(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)))


class Many(Own):
    forward = pl.LightningModule.forward


@pytest.mark.parametrize(
    ("kind", "settings", "error", "says"),
    [
        (Unused, {}, MixingError, "no loss used the mixed target"),
        (
            Past,
            {},
            MixingError,
            r"nothing was mixed: self\.net\(x\) in training_step .* to be called \(itself",
        ),
        (Deaf, {}, MixingError, r"nothing was mixed: self\(x\) .* net=\.\.\. names the module"),
        (Many, {}, ValueError, "3 children with parameters and no forward: .* one, two, head"),
        (Lit, {"net": "nett"}, ValueError, "net='nett' names no module of Lit: .* its children are net"),
        (Own, {"net": ""}, ValueError, "and 'self' is its own forward"),
        (Lit, {"net": "self"}, ValueError, "names no module"),
        (Lit, {"loss": "criterion"}, ValueError, "loss='criterion' names no loss of Lit"),
        (Lit, {"layers": "layer9"}, ValueError, "'layer9' matches no layer"),
    ],
)
def test_refuses(tmp_path: Path, kind: Any, settings: Any, error: Any, says: str) -> None:
    module = made(kind)
    before = inventory(module)
    with pytest.raises(error, match=says):
        trainer(tmp_path, Mixing(METHOD, **settings)).fit(module, loader(batch_size=20))
    assert inventory(module) == before and hooks(module) == 0


def test_notices_at_the_end_of_a_short_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(MixingError, match="8 training batches went by and nothing was mixed"):
        trainer(tmp_path, Mixing(METHOD)).fit(made(Past), loader())


def test_named_modules_are_replaced_while_fit_runs(tmp_path: Path) -> None:
    module = made(Lit)
    before = inventory(module)
    trainer(tmp_path, Mixing(METHOD, PLACES, loss="loss")).fit(module, loader())
    assert same(module.net, by_hand()) and inventory(module) == before


def test_a_named_loss_serves_what_the_mixer_cannot_know(tmp_path: Path) -> None:
    class Squares(Functional):
        def squares(self, output: Tensor, y: Tensor) -> Tensor:
            return F.mse_loss(output, F.one_hot(y, 10).float())

        def computed(self, output: Tensor, y: Tensor) -> Tensor:
            return self.squares(output, y)

    module, mixing = made(Squares), Mixing(METHOD, PLACES, loss="squares")
    trainer(tmp_path, mixing).fit(module, loader())
    assert mixing.state_dict()["step"] == 8 and "squares" not in vars(module)
