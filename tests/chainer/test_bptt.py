"""Truncated backpropagation through time in Chainer: a window's forwards share one plan, as if mixed by hand."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest

from mixlayers import ManifoldMixup
from mixlayers.chainer import BPTTUpdater, Classifier

SIZE, LENGTH, STEPS = 5, 3, 12


class Recurrent(chainer.Chain):
    """Its LSTM keeps the state from call to call."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.embed, self.lstm, self.out = L.Linear(3, 6), L.LSTM(6, 6), L.Linear(6, 4)

    def __call__(self, x):
        return self.out(self.lstm(self.embed(x)))


def made():
    np.random.seed(3)  # noqa: NPY002 - Chainer's initializers use it
    return Recurrent()


def series():
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(STEPS, SIZE, 3)).astype(np.float32),
        rng.integers(4, size=(STEPS, SIZE)).astype(np.int32),
    )
    return x, y, chainer.datasets.TupleDataset(x.reshape(-1, 3), y.reshape(-1))


def by_hand(plans):
    """The same training by Chainer's own functions: the embedding is mixed, and the loss blended."""
    net, (x, y, _) = made(), series()
    optimizer = chainer.optimizers.SGD(0.5).setup(net)
    for plan, window in zip(plans, range(0, STEPS, LENGTH), strict=True):
        total = 0.0
        for at in range(window, window + LENGTH):
            hidden = net.embed(x[at])
            hidden = plan.lam * hidden + (1.0 - plan.lam) * hidden[plan.perm]
            output = net.out(net.lstm(hidden))
            loss = plan.lam * F.softmax_cross_entropy(output, y[at])
            total += loss + (1.0 - plan.lam) * F.softmax_cross_entropy(output, y[at][plan.perm])
        net.cleargrads()
        total.backward()
        total.unchain_backward()
        optimizer.update()
    return net


@pytest.mark.parametrize("form", ["tuples", "dicts", "arrays"])
def test_a_windows_forwards_share_a_plan_and_equal_mixing_by_hand(form):
    model = Classifier(made(), ManifoldMixup(), layers=["embed"])
    dataset, options = series()[2], {}
    if form == "dicts":
        dataset = [{"x": x, "y": y} for x, y in dataset]
        options["loss_func"] = lambda *, x, y: model(x, y)
    elif form == "arrays":
        dataset = [np.append(x, np.float32(y)) for x, y in dataset]
        options["loss_func"] = lambda both: model(both[:, :3], both[:, 3].astype(np.int32))
    iterator = chainer.iterators.SerialIterator(dataset, SIZE, shuffle=False)
    updater = BPTTUpdater(iterator, chainer.optimizers.SGD(0.5).setup(model), LENGTH, **options)
    plans = []
    for window in range(STEPS // LENGTH):
        updater.update()
        plans.append(model.mixer.last)
        assert model.mixer.step == window + 1 == len({plan.lam for plan in plans})
        assert model.predictor.lstm.h.creator is None, "the graph is cut, the state stays"
    expected = dict(by_hand(plans).namedparams())
    for name, parameter in model.predictor.namedparams():
        np.testing.assert_allclose(parameter.array, expected[name].array, rtol=1e-4, atol=1e-6)
    assert updater.iteration == 4 and updater.epoch == 1


def test_a_target_without_a_mixer_says_how_to_give_it_one():
    optimizer = chainer.optimizers.SGD().setup(L.Classifier(made()))
    iterator = chainer.iterators.SerialIterator(series()[2], SIZE)
    with pytest.raises(ValueError, match=r"no mixer is on this Classifier.*wrap\(net\) first"):
        BPTTUpdater(iterator, optimizer, LENGTH)
    with pytest.raises(ValueError, match="length must be in"):
        BPTTUpdater(iterator, optimizer, 0)
