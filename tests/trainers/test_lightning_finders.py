"""Lightning's finders search as the training will be: mixed. They leave no trace, nor does one that fails."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner import Tuner

from mixlayers.torch import get_mixer
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import METHOD, PLACES, hooks
from tests.trainers.lightning_scene import NOISE, Lit, by_hand, inventory, loader, made, same, trainer

pytestmark = pytest.mark.filterwarnings(NOISE, "ignore:Be aware that when using `ckpt_path`")


class Searched(Lit):
    """Counts the mixed forwards of its training."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size, self.lr, self.plans = 50, 1e-3, []

    def training_step(self, batch: Any, index: int) -> Any:
        step = super().training_step(batch, index)
        self.plans.append((len(batch[1]), get_mixer(self.net).last.step))
        return step

    def val_dataloader(self) -> Any:
        return loader(batch_size=200)

    def train_dataloader(self) -> Any:
        return loader(batch_size=self.batch_size)


def test_the_learning_rate_is_searched_mixed(tmp_path: Path) -> None:
    finder = LearningRateFinder(num_training_steps=8, update_attr=False, early_stop_threshold=None)
    module, mixing = made(Searched), Mixing(METHOD, PLACES)
    run = trainer(tmp_path, mixing, finder)
    run.fit(module)
    plans = [step for _, step in module.plans]
    assert plans == [*range(8), *range(8)], "the training begins with plan 0"
    assert mixing.state_dict()["step"] == 8
    assert sum(run.callback_metrics[f"mixing/steps/{place}"] for place in PLACES) == 8
    assert same(module.net, by_hand()), "the search left a trace"


def test_the_tuner_searches_mixed_and_leaves_the_module(tmp_path: Path) -> None:
    module, mixing = made(Searched), Mixing(METHOD, PLACES)
    before = inventory(module)
    run = trainer(tmp_path, mixing)
    Tuner(run).lr_find(module, num_training=5, update_attr=False)
    assert [step for _, step in module.plans][:5] == [0, 1, 2, 3, 4]
    assert inventory(module) == before and hooks(module) == 0


def test_the_batch_size_is_searched_mixed(tmp_path: Path) -> None:
    module, mixing = made(Searched), Mixing(METHOD, PLACES)
    trainer(tmp_path, mixing, BatchSizeFinder(steps_per_trial=1, init_val=10, max_trials=2)).fit(module)
    assert [size for size, _ in module.plans] == [50, 20, *[20] * 20], (
        "two trials, of one batch each, were mixed"
    )
    assert [step for _, step in module.plans[2:]] == [*range(20)]
    assert mixing.state_dict()["step"] == 20


class Fails(Searched):
    error: Any = ZeroDivisionError

    def training_step(self, batch: Any, index: int) -> Any:
        if len(self.plans) == 3:
            self.plans.clear()
            raise self.error
        return super().training_step(batch, index)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("searching", [True, False])
def test_what_breaks_off_leaves_the_module_as_it_was(tmp_path: Path, searching: bool, error: Any) -> None:
    class Broken(Fails):
        pass

    Broken.error = error
    module, mixing = made(Broken), Mixing(METHOD, PLACES)
    before = inventory(module)
    finders: list[Any] = [LearningRateFinder(num_training_steps=12)] if searching else []
    kept = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit if error is KeyboardInterrupt else error):
            trainer(tmp_path, mixing, *finders).fit(module)
    finally:
        signal.signal(signal.SIGINT, kept)  # Lightning ignores it from then on
    assert inventory(module) == before and hooks(module) == 0 and mixing.mixer is None
    for _ in range(2):  # by hand, without labels
        module.net(torch.zeros(2, 64)).sum().backward()
