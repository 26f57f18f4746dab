"""RBN's link in Chainer: axes, both orders of gradients, precision, files; tests/shared/test_rbn.py has the numbers."""

from pathlib import Path

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Variable

import mixlayers.chainer  # noqa: F401  # before chainer, which it makes importable
from mixlayers.chainer import RBN, convert_rbn, iebn_parameters, revert_rbn
from tests.support.reference_rbn import NAMES, rbn

OWN = {"weight": "gamma", "bias": "beta"}
NATIVE = ["compiled passes", "Chainer's functions"]


@pytest.fixture(params=NATIVE)
def native(request, monkeypatch):
    if request.param != NATIVE[0]:
        monkeypatch.setattr("mixlayers_chainer._iebn.native.library", lambda: None)


def random(shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def learned(*arguments, dtype="float64", **options):
    """A link whose parameters are not the initial ones."""
    norm = RBN(*arguments, dtype=dtype, **options)
    for seed, parameter in enumerate(norm.params()):
        parameter.array[...] = random(parameter.shape, seed)
    return norm


def own(norm):
    found = (getattr(norm, OWN.get(name, name)) for name in NAMES)
    missing = {"weight": np.ones, "bias": np.zeros}
    return [
        missing[name](norm.avg_mean.size) if each is None else each.array.reshape(-1).astype("float64")
        for name, each in zip(NAMES, found, strict=True)
    ]


@pytest.mark.usefixtures("native")
def test_channels_last_and_channels_of_two_axes():
    norm, x = learned(3, axis=(0, 1, 2)), random((4, 5, 2, 3))
    wanted = np.moveaxis(rbn(np.moveaxis(x, -1, 1), *own(norm), eps=2e-5), 1, -1)
    np.testing.assert_allclose(norm(x).array, wanted, rtol=0, atol=1e-12)
    norm, x = learned((2, 3)), random((4, 2, 3))
    wanted = rbn(x.reshape(4, 6), *own(norm), eps=2e-5).reshape(x.shape)
    np.testing.assert_allclose(norm(x).array, wanted, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("options", [{"use_gamma": False}, {"use_beta": False}], ids=str)
def test_without_gamma_or_beta(options):
    norm, x = learned(3, **options), random((4, 3, 5, 2))
    np.testing.assert_allclose(norm(x).array, rbn(x, *own(norm), eps=2e-5), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_features_of_another_precision_than_the_parameters(dtype):
    norm, x = learned(3, dtype="float32"), (random((6, 3, 8, 8)) + 8).astype(dtype)
    y = norm(x).array
    wanted = rbn(x.astype("float64"), *own(norm), eps=2e-5)
    assert y.dtype == dtype
    assert np.abs(y - wanted).max() <= max(np.finfo(dtype).eps, 2e-5) * np.abs(wanted).max()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_second_derivatives_are_those_of_differences_and_leave_the_statistics(training):
    norm, x = learned(3), random((4, 3, 2, 5))
    values = [x, *(parameter.array.copy() for parameter in norm.params())]
    ways = [random(value.shape, 9 + i) for i, value in enumerate(values)]
    again = [random(value.shape, 29 + i) for i, value in enumerate(values)]

    def slopes(t, keep):
        given = Variable(values[0] + t * ways[0])
        for parameter, value, way in zip(norm.params(), values[1:], ways[1:], strict=True):
            parameter.array[...] = value + t * way
        inputs = [given, *norm.params()]
        return inputs, chainer.grad([F.sum(norm(given) ** 3)], inputs, enable_double_backprop=keep)

    def along(t):
        return sum(float((a.array * b).sum()) for a, b in zip(slopes(t, False)[1], again, strict=True))

    with chainer.using_config("train", training), chainer.using_config("in_recomputing", True):
        inputs, first = slopes(0.0, True)
        kept = norm.avg_mean.copy(), norm.avg_var.copy()
        total = sum(F.sum(each * other) for each, other in zip(first, again, strict=True))
        second = chainer.grad([total], inputs)
        found = sum(float((each.array * way).sum()) for each, way in zip(second, ways, strict=True))
        tiny = 1e-6
        assert found == pytest.approx((along(tiny) - along(-tiny)) / (2 * tiny), rel=1e-6)
    assert np.array_equal(norm.avg_mean, kept[0]) and np.array_equal(norm.avg_var, kept[1])


def test_a_second_derivative_counts_the_batch_once():
    norm, x = learned(3), random((4, 3, 2, 5))
    y = norm(Variable(x))
    before = norm.avg_mean.copy()
    chainer.grad([F.sum(y**3)], list(norm.params()), enable_double_backprop=True)
    assert before.any() and np.array_equal(norm.avg_mean, before)


@pytest.mark.usefixtures("native")
def test_a_batch_of_one_value_gives_beta_and_warns_where_the_caller_stands():
    norm = learned(3)
    with pytest.warns(UserWarning, match="one value a channel") as caught:
        y = norm(random((1, 3)))
    assert caught[0].filename == __file__
    np.testing.assert_allclose(y.array[0], norm.beta.array, rtol=0, atol=1e-12)


def test_files_of_batchnormalization_load_strictly_and_own_ones_whole(tmp_path: Path):
    theirs, norm = L.BatchNormalization(3), RBN(3)
    theirs(random((4, 3, 5), dtype="float32"))
    chainer.serializers.save_npz(tmp_path / "theirs.npz", theirs)
    norm.weight_recenter.array[...] = 7
    chainer.serializers.load_npz(tmp_path / "theirs.npz", norm)
    assert np.array_equal(norm.avg_var, theirs.avg_var) and (norm.weight_recenter.array == 7).all()
    chainer.serializers.save_npz(tmp_path / "own.npz", norm)
    other = RBN(3)
    chainer.serializers.load_npz(tmp_path / "own.npz", other)
    assert (other.weight_recenter.array == 7).all()


def test_conversion_is_in_place_and_names_an_optimizer_from_before():
    model = chainer.Sequential(L.BatchNormalization(3), L.BatchNormalization(3))
    optimizer = chainer.optimizers.SGD().setup(model)
    links = list(model)
    with pytest.warns(UserWarning, match="will not train the 6 new parameters") as caught:
        convert_rbn(model)
    assert caught[0].filename == __file__ and optimizer.target is model
    assert list(model) == links and all(type(link) is RBN for link in links)
    others, added = iebn_parameters(model)
    assert (len(others), len(added)) == (4, 6)
    revert_rbn(model)
    assert all(type(link) is L.BatchNormalization for link in links)
    assert {name for name, _ in model.namedparams()} == {
        f"/{i}/{name}" for i in (0, 1) for name in ("gamma", "beta")
    }
