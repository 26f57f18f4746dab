"""Lightning's own ways to run: loggers, checkpoints, accumulation, precision, averages, two processes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from mixlayers import Scheduled
from mixlayers.trainers.lightning import Mixing
from tests.trainers.digits_scene import (
    BATCH,
    LR,
    METHOD,
    PLACES,
    TRAIN,
    Net,
    hooks,
)
from tests.trainers.lightning_scene import (
    NOISE,
    Functional,
    Lit,
    Own,
    by_hand,
    loader,
    made,
    same,
    trainer,
)

pytestmark = pytest.mark.filterwarnings(NOISE)


def test_a_second_fit_goes_on(tmp_path: Path) -> None:
    module, mixing = made(Lit), Mixing(METHOD, PLACES)
    for steps in (8, 16):
        trainer(tmp_path, mixing).fit(module, loader())
        assert mixing.state_dict()["step"] == steps


def test_logs_lam_by_step_and_layers_by_epoch(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="board")]
    mixing = Mixing(METHOD, PLACES)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, *step: Any) -> None:
            seen.append(mixing.mixer.history.last)

    run = trainer(tmp_path, Watch(), mixing, logger=loggers, max_epochs=3, log_every_n_steps=4)
    run.fit(made(Lit), loader())
    with (Path(loggers[0].log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert mixing.mixer is None and list(mixing.history) == seen  # it stays after fit
    lams = {int(row["step"]): float(row["mixing/lam"]) for row in rows if row["mixing/lam"]}
    assert lams == pytest.approx({step: 1 - seen[step].s for step in range(3, 24, 4)})
    for epoch in range(3):
        layers = [record.layer for record in seen[8 * epoch : 8 * epoch + 8]]
        for place in PLACES:
            logged = [row[f"mixing/steps/{place}"] for row in rows if row["epoch"] == str(epoch)]
            assert [float(value) for value in logged if value] == [layers.count(place)]
    events = b"".join(path.read_bytes() for path in Path(loggers[1].log_dir).glob("events*"))
    assert events.count(b"mixing/lam") == 6 and events.count(b"mixing/steps/two") == 3


def test_counts_clean_steps(tmp_path: Path) -> None:
    run = trainer(tmp_path, Mixing(Scheduled(METHOD, start=3), PLACES))
    run.fit(made(Lit), loader())
    assert run.callback_metrics["mixing/steps/clean"] == 3


@pytest.mark.parametrize("kind", [Lit, Functional, Own])
def test_accumulates_in_bf16_with_a_norm_of_gradients(tmp_path: Path, kind: Any) -> None:
    mixing, module = Mixing(METHOD, PLACES), made(kind)
    run = trainer(tmp_path, mixing, accumulate_grad_batches=2, precision="bf16-mixed", gradient_clip_val=1.0)
    run.fit(module, loader())
    assert run.global_step == 4 and mixing.state_dict()["step"] == 8


@pytest.mark.parametrize(
    "averaging", [EMAWeightAveraging(decay=0.9), StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)]
)
def test_averages_of_weights_are_not_mixed(tmp_path: Path, averaging: Any) -> None:
    class Adam(Lit):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), LR)

    module, mixing = made(Adam), Mixing(METHOD, PLACES)
    trainer(tmp_path, averaging, mixing, max_epochs=3).fit(module, loader())
    assert hooks(averaging._average_model) == hooks(module) == 0
    assert mixing.state_dict()["step"] >= 24


def test_manual_optimisation(tmp_path: Path) -> None:
    class Manual(Functional):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, index: int) -> None:
            optimizer, schedule = self.optimizers(), self.lr_schedulers()
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            optimizer.step()
            schedule.step()

    module = made(Manual)
    trainer(tmp_path, Mixing(METHOD, PLACES)).fit(module, loader())
    assert same(module.net, by_hand())


def test_the_other_package_of_the_same_name(tmp_path: Path) -> None:
    class Other(pytorch_lightning.LightningModule):
        predicted, computed, training_step = Lit.predicted, Lit.computed, Lit.training_step
        configure_optimizers = Lit.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.loss = nn.CrossEntropyLoss()

    module = made(Other)
    trainer(tmp_path, Mixing(METHOD, PLACES), package=pytorch_lightning).fit(module, loader())
    assert same(module.net, by_hand())


def test_checkpoints_keep_their_keys_and_carry_the_step(tmp_path: Path) -> None:
    module = made(Lit)
    run = trainer(tmp_path, Mixing(METHOD, PLACES), enable_checkpointing=True)
    run.fit(module, loader())
    saved = torch.load(run.checkpoint_callback.best_model_path, weights_only=True)
    assert list(saved["state_dict"]) == list(made(Lit).state_dict())
    assert saved["callbacks"]["Mixing"]["step"] == 8


def test_two_processes(tmp_path: Path) -> None:
    """One model, plans of each process's own, the counts of both; also where DDP calls the mixed module itself."""
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here.parents[1], here.parents[1] / "backends", here)))
    command = [sys.executable, str(here / "lightning_ddp.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    ranks = [[torch.load(tmp_path / f"{kind}-{rank}.pt") for rank in (0, 1)] for kind in ("Child", "Own")]
    parameters = [report["parameters"] for pair in ranks for report in pair]
    for other in parameters[1:]:
        assert all(torch.equal(one, two) for one, two in zip(parameters[0], other, strict=True))
    for first, second in ranks:
        assert len(first["lams"]) == len(second["lams"]) == TRAIN // BATCH // 2
        assert not set(first["lams"]) & set(second["lams"])
    logged = torch.load(tmp_path / "Own-0-logged.pt")
    assert sum(logged[f"mixing/steps/{place}"] for place in (*PLACES, "clean")) == TRAIN // BATCH
