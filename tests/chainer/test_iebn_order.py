"""Who knew a model before its norms were converted, norms of other classes, and statistics for averaged weights."""

from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Sequential
from chainer.iterators import SerialIterator
from chainer.training.updaters import ParallelUpdater

from mixlayers.chainer import IEBN, RBN, convert_iebn, update_bn


def net() -> Sequential:
    return Sequential(L.Convolution2D(3, 3, 3), L.BatchNormalization(3), F.relu)


def images(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 5, 5)).astype(np.float32) * 2 + 1


class Loud(L.BatchNormalization):
    """Somebody's own, which normalises and no more."""


def test_an_updater_with_copies_from_before_the_conversion_is_named() -> None:
    model = net()
    optimizer = chainer.optimizers.SGD(0.1)
    iterator = SerialIterator(images(), 4)
    devices = {"main": "@numpy", "second": "@numpy"}
    models = {"main": model, "second": model.copy(mode="copy")}
    updater = ParallelUpdater(iterator, optimizer.setup(model), models=models, devices=devices)
    model.disable_update()  # an optimizer is another test's
    with pytest.warns(UserWarning, match=r"this ParallelUpdater holds a copy .* convert first") as caught:
        convert_iebn(model)
    assert [each.filename for each in caught] == [__file__]
    assert isinstance(updater._models["second"][1], L.BatchNormalization)


def test_a_norm_of_another_class_is_converted_as_one_says() -> None:
    norm = Loud(3)
    model = convert_iebn(Sequential(L.Convolution2D(3, 3, 1), norm), also={Loud: IEBN.from_batchnorm})
    assert model[1] is norm and type(norm) is IEBN
    assert model(images()).shape == (12, 3, 5, 5)
    model = Sequential(Loud(3))
    with chainer.using_config("train", False):
        expected = model(images()).array
        convert_iebn(model, also={Loud: IEBN.from_batchnorm}, preserve_output=True)
        np.testing.assert_allclose(model(images()).array, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [IEBN, L.BatchNormalization])
@pytest.mark.parametrize("examples", [True, False], ids=["an iterator", "arrays"])
def test_averaged_weights_get_statistics_of_their_own(examples: bool, kind: Any) -> None:
    """The mean of the batches' means and unbiased variances, in one pass."""
    x = images()
    model = Sequential(kind(3), L.Convolution2D(3, 3, 1), kind(3))
    model[0].avg_mean[...] = 9.0
    pairs = [(each, 0) for each in x]
    batches = SerialIterator(pairs, 4, repeat=False, shuffle=False) if examples else np.split(x, 3)
    update_bn(batches, model)
    parts = [part.astype(np.float64) for part in np.split(x, 3)]
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(model[0].avg_mean, np.mean([p.mean((0, 2, 3)) for p in parts], 0), **close)
    np.testing.assert_allclose(
        model[0].avg_var, np.mean([p.var((0, 2, 3), ddof=1) for p in parts], 0), **close
    )
    assert model[0].decay == 0.9 and np.isfinite(model[2].avg_mean).all()


class Siamese(chainer.Chain):
    """Uses its norm twice in a batch, and another one in some batches only."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.norm, self.rare = IEBN(3), RBN(3)

    def forward(self, x: np.ndarray) -> None:
        self.norm(x)
        self.norm(x * 3 + 1)
        if x.mean() > 2:
            self.rare(x)


def test_update_bn_averages_over_all_uses() -> None:
    batches, model = [images(4) * scale for scale in (1.0, 2.0, 3.0, 4.0)], Siamese()
    batches = [x.astype(np.float32) for x in batches]
    update_bn(batches, model)
    every = [used for x in batches for used in (x, x * 3 + 1)]
    for norm, uses in (model.norm, every), (model.rare, [x for x in batches if x.mean() > 2]):
        assert 0 < len(uses) != 4
        mean = np.mean([x.mean((0, 2, 3), np.float64) for x in uses], 0)
        var = np.mean([x.var((0, 2, 3), np.float64, ddof=1) for x in uses], 0)
        np.testing.assert_allclose(norm.avg_mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(norm.avg_var, var, rtol=1e-5, atol=1e-6)
        assert norm.decay == 0.9
