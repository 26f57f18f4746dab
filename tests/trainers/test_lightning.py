"""Lightning: what its trainer trains on is mixed, features and labels alike, and afterwards nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixlayers import CutMix, Mixup, PatchUp
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import (
    BATCH,
    EPOCHS,
    METHOD,
    PLACES,
    STEPS,
    TRAIN,
    Swap,
    hooks,
)
from tests.trainers.lightning_scene import (
    KINDS,
    NOISE,
    TEST_X,
    TEST_Y,
    Lit,
    Probe,
    X,
    by_hand,
    inventory,
    loader,
    made,
    net_of,
    same,
    trainer,
)

pytestmark = pytest.mark.filterwarnings(NOISE)


@pytest.mark.parametrize("kind", KINDS)
def test_trains_as_a_loop_by_hand_does(tmp_path: Path, kind: Any) -> None:
    module = made(kind)
    trainer(tmp_path, Mixing(METHOD, PLACES)).fit(module, loader())
    assert same(net_of(module), by_hand())


@pytest.mark.parametrize("method", [Mixup(), PatchUp("soft", block_size=3, loss_scale=2.0), CutMix(prob=0.5)])
def test_takes_any_method(tmp_path: Path, method: Any) -> None:
    class Images(Lit):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))

    mixing, module = Mixing(method, "0" if method.hidden else "auto"), made(Images)
    trainer(tmp_path, mixing).fit(module, loader(X.view(-1, 1, 8, 8)))
    assert mixing.state_dict()["step"] == TRAIN // BATCH


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_features_and_labels_are_both_swapped(tmp_path: Path, kind: Any, place: str) -> None:
    mixing = Mixing(Swap(), place)
    probe = Probe(mixing)
    trainer(tmp_path, mixing, probe).fit(made(kind), loader())
    assert probe.steps == TRAIN // BATCH


def test_learns_digits(tmp_path: Path) -> None:
    """Over seeds 0 to 5 a plain run reaches 0.963 +- 0.003 (mean, standard deviation), this one 0.968 +- 0.002."""
    module, mixing = made(Lit), Mixing(METHOD, PLACES)
    run = trainer(tmp_path, mixing, max_epochs=EPOCHS)
    run.fit(module, loader(shuffle=True))
    module.eval()
    with torch.no_grad():
        accuracy = (module.net(TEST_X).argmax(1) == TEST_Y).float().mean()
    assert accuracy > 0.963 - 0.003
    assert mixing.state_dict()["step"] == STEPS
    counts = [run.callback_metrics[f"mixing/steps/{place}"] for place in PLACES]
    assert sum(counts) == TRAIN // BATCH


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_nothing_behind(tmp_path: Path, kind: Any) -> None:
    module = made(kind).eval().train()
    keys, before = list(module.state_dict()), inventory(module)
    trainer(tmp_path, Mixing(METHOD, PLACES), max_steps=2).fit(module, loader(), loader(TEST_X, TEST_Y))
    assert inventory(module) == before
    assert list(module.state_dict()) == keys
    assert hooks(module) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_nothing_behind_after_an_error(tmp_path: Path, kind: Any) -> None:
    class Fails(pl.Callback):
        def on_train_batch_end(self, *step: Any) -> None:
            raise ZeroDivisionError

    module = made(kind)
    before = inventory(module)
    mixing = Mixing(METHOD, PLACES)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, Fails(), mixing).fit(module, loader())
    assert inventory(module) == before and hooks(module) == 0
    assert mixing.mixer is None and mixing.state_dict()["step"] == 1


def test_validation_is_never_mixed(tmp_path: Path) -> None:
    """Nor is the sanity check before training, when the loss was not mixed yet."""

    class Outside(pl.Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *step: Any) -> None:
            assert mixing.mixer.last is None
            self.plain = F.cross_entropy(pl_module.net(TEST_X), TEST_Y)

    module, mixing, outside = made(Lit), Mixing(METHOD, PLACES), Outside()
    run = trainer(tmp_path, outside, mixing, max_epochs=2)
    run.fit(module, loader(), loader(TEST_X, TEST_Y, batch_size=len(TEST_X)))
    torch.testing.assert_close(run.callback_metrics["loss"], outside.plain.detach())
    assert mixing.state_dict()["step"] == 16
