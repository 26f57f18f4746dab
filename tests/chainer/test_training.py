"""Under Chainer's own machinery: the Trainer and its extensions, resume, replicas, ranks."""

import io
import json
import subprocess
import sys
from pathlib import Path

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import training
from chainer.iterators import SerialIterator
from chainer.serializers import load_npz
from chainer.training import extensions
from chainer.training.updaters import multiprocess_parallel_updater

from mixlayers import CutMix, Mixup
from mixlayers.chainer import (
    Classifier,
    MixCollate,
    accuracy,
    get_mixer,
    unwrap,
    wrap,
)
from tests.chainer.chainer_networks import LAYERS, Net, batch, classifier, data

HERE = Path(__file__).parent


def get_copy(model):
    plain = Net()
    plain.copyparams(model.predictor)
    return plain


def trainer_of(model, folder, iterations, converter=None, updater=None):
    if updater is None:
        optimizer = chainer.optimizers.MomentumSGD(0.05).setup(model)
        options = {} if converter is None else {"converter": converter}
        iterator = SerialIterator(data(), 6, shuffle=False)
        updater = training.StandardUpdater(iterator, optimizer, **options)
    trainer = training.Trainer(updater, (iterations, "iteration"), out=folder)
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    return trainer


def log_of(folder):
    return json.loads((folder / "log").read_text())


def test_the_trainer_mixes_and_its_evaluator_does_not(tmp_path):
    model = classifier()
    trainer = trainer_of(model, tmp_path, 4)
    trainer.extend(extensions.Evaluator(SerialIterator(data(12, 1), 6, repeat=False, shuffle=False), model))
    trainer.extend(extensions.PlotReport(["main/lam", "main/loss"], "iteration", filename="lam.png"))
    trainer.extend(extensions.PrintReport(["iteration", "main/loss", "main/lam"], out=io.StringIO()))
    trainer.extend(extensions.DumpGraph("main/loss"))
    trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
    trainer.run()
    log = log_of(tmp_path)
    assert model.mixer.step == 4 and len({entry["main/lam"] for entry in log}) == 4
    assert {entry["main/layer"] for entry in log} <= {0.0, 1.0}
    last = log[-1]
    assert "validation/main/loss" in last and "validation/main/lam" not in last
    with chainer.using_config("train", False):
        batches = [data(12, 1)[part] for part in (slice(6), slice(6, 12))]
        losses = [float(model(*map(np.array, zip(*batch, strict=True))).array) for batch in batches]
    assert last["validation/main/loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    theirs = L.Classifier(Net())  # a snapshot is also one of Chainer's classifier
    load_npz(tmp_path / "snapshot_iter_4", theirs, path="updater/model:main/")
    np.testing.assert_array_equal(theirs.predictor.head.W.array, model.predictor.head.W.array)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_broke_off_can_be_gone_on_with_or_unwrapped(tmp_path, error):
    """In the middle of a mixed forward."""
    model = classifier()
    trainer = trainer_of(model, tmp_path, 3)
    forward = model.predictor.head.forward

    def fail(*args):
        if model.mixer.step == 2:
            raise error
        return forward(*args)

    model.predictor.head.forward = fail
    with pytest.raises(error):
        trainer.run()
    model.predictor.head.forward = forward
    assert model.mixer.step == 2
    x, y = batch()
    with chainer.using_config("train", False):
        np.testing.assert_array_equal(model.predictor(x).array, get_copy(model)(x).array)
    loss = model(x, y)
    plan = model.mixer.last
    losses = [F.softmax_cross_entropy(model.y, labels).array for labels in (y, y[plan.perm])]
    np.testing.assert_allclose(loss.array, plan.lam * losses[0] + (1 - plan.lam) * losses[1], rtol=1e-5)
    again = trainer_of(model, tmp_path / "again", 2)
    again.run()
    assert model.mixer.step == 5
    net = unwrap(model.predictor)
    expected = F.softmax_cross_entropy(get_copy(model)(x), y)
    np.testing.assert_allclose(L.Classifier(net)(x, y).array, expected.array, rtol=1e-5)


@pytest.mark.parametrize("with_extension", [True, False])
def test_resume_from_a_snapshot_is_bit_equal_to_an_uninterrupted_run(tmp_path, with_extension):
    def start(iterations):
        model = classifier(seed=1)
        trainer = trainer_of(model, tmp_path, iterations)
        if with_extension:
            trainer.extend(model.mixer.extension)
        return model, trainer

    whole, trainer = start(7)
    trainer.run()
    first, trainer = start(4)
    trainer.extend(extensions.snapshot(filename="snapshot"), trigger=(4, "iteration"))
    trainer.run()
    second, trainer = start(7)
    load_npz(tmp_path / "snapshot", trainer)
    trainer.run()
    equal = [np.array_equal(p.array, q.array) for p, q in zip(whole.params(), second.params(), strict=True)]
    assert first.mixer.step == 4
    assert second.mixer.step == (7 if with_extension else 3) and all(equal) == with_extension


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_replicas_of_a_parallel_updater_differ(tmp_path):
    plans = {}

    class Noted(Classifier):
        def forward(self, *args):
            loss = super().forward(*args)
            plans.setdefault(self.mixer.last.rank, []).append(self.mixer.last)
            return loss

    model = classifier(Noted)
    optimizer = chainer.optimizers.SGD(0.1).setup(model)
    updater = training.updaters.ParallelUpdater(
        SerialIterator(data(), 12, shuffle=False), optimizer, devices={"main": -1, "second": -1}
    )
    trainer_of(model, tmp_path, 3, updater=updater).run()
    assert plans.keys() == {0, 1} and [len(its) for its in plans.values()] == [3, 3]
    for main, second in zip(plans[0], plans[1], strict=True):
        assert main.step == second.step and main.lam != second.lam


@pytest.mark.parametrize("method", [Mixup(0.5), CutMix(lam_per="sample")], ids=repr)
def test_a_converter_mixes_for_chainers_own_classifier(tmp_path, method):
    model = L.Classifier(Net(), accfun=accuracy)
    converter = MixCollate(method, num_classes=4, smoothing=0.1)
    trainer_of(model, tmp_path, 5, converter).run()
    assert converter._step == 5 and all(np.isfinite(entry["main/loss"]) for entry in log_of(tmp_path))
    x, y = converter([data()[i] for i in range(5)], -1)
    assert type(x) is np.ndarray and y.shape == (5, 4) and y.dtype == np.float32
    np.testing.assert_allclose(y.sum(1), 1.0, rtol=1e-6)
    again = MixCollate(method, num_classes=4, smoothing=0.1)
    first = [again([data()[i] for i in range(5)])[1] for _ in range(2)]
    assert not np.array_equal(*first)


def test_ranks_of_chainermn_differ_and_their_weights_stay_equal():
    """Two processes, over ChainerMN's naive communicator."""
    done = subprocess.run(
        [Path(sys.executable).parent / "mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2",
         sys.executable, HERE / "two_ranks.py"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["plans-differ", "weights-equal"]


def test_workers_of_a_multiprocess_updater_differ(monkeypatch):
    """The updater itself needs NCCL: this shows only that a worker is known."""
    worker = multiprocess_parallel_updater._Worker.__new__(multiprocess_parallel_updater._Worker)
    worker.proc_id = 2
    model = classifier()
    monkeypatch.setattr("mixlayers_chainer._framework.current_process", lambda: worker)
    model(*batch())
    assert model.mixer.last.rank == 2


def test_an_optimizer_may_be_set_up_before_or_after():
    x, y = batch()
    weights = []
    for before in (True, False):
        np.random.seed(0)  # noqa: NPY002
        net = Net()
        net.cleargrads()
        if before:
            optimizer = chainer.optimizers.SGD(0.1).setup(net)
        wrap(net, layers=LAYERS)
        if not before:
            optimizer = chainer.optimizers.SGD(0.1).setup(net)
        with get_mixer(net)(y) as target:
            output = net(x)
        target.blend(lambda t, output=output: F.softmax_cross_entropy(output, t)).backward()
        optimizer.update()
        weights.append(net.stem.W.array)
    assert np.array_equal(*weights)
