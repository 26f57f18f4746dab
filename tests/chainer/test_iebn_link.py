"""IEBN as a link: arguments, sizes, modes, files, copies."""

import copy
import io
import pickle
from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Sequential, Variable, serializers

from mixlayers_chainer._iebn.layer import IEBN


def images(shape: tuple[int, ...] = (8, 3, 5, 6), seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 2 + 0.5).astype(dtype)


def shuffled(link: chainer.Link, seed: int = 1) -> chainer.Link:
    rng = np.random.default_rng(seed)
    for _, parameter in sorted(link.namedparams(include_uninit=False)):
        parameter.array[...] = rng.standard_normal(parameter.shape)
    return link


def saved(link: chainer.Link) -> io.BytesIO:
    file = io.BytesIO()
    serializers.save_npz(file, link)
    file.seek(0)
    return file


def tensors(link: chainer.Link) -> dict[str, Any]:
    target: dict[str, Any] = {}
    serializers.DictionarySerializer(target).save(link)
    return target


OPTIONS = [
    {},
    {"decay": 0.5, "eps": 1e-3},
    {"dtype": np.float64},
    {"use_gamma": False},
    {"use_beta": False},
    {"initial_gamma": 0.5, "initial_beta": 2},
    {"initial_avg_mean": 3, "initial_avg_var": 0.25},
    {"initial_gamma": chainer.initializers.Constant(np.arange(3.0))},
]


@pytest.mark.parametrize("size", [3, (3,), (3, 5), (3, 5, 6), None])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options) or "none")
def test_has_the_arguments_and_arrays_of_batchnormalization(options: dict[str, Any], size: Any) -> None:
    if size not in (3, (3,)) and isinstance(
        options.get("initial_gamma"), chainer.initializers.Constant
    ):  # it fits one shape alone
        size = None
    axis = (0, 2, 3) if size is None else None
    norm, plain = (kind(size, axis=axis, **options) for kind in (IEBN, L.BatchNormalization))
    for _ in range(2):  # before, and after, the size is known
        own, other = tensors(norm), tensors(plain)
        for name, start in zip(IEBN.starts, (0.0, -1.0), strict=True):
            array = own.pop(name)
            assert array[()] is None or np.array_equal(array, np.full_like(norm.avg_mean, start))
        assert own.keys() == other.keys()
        for name, array in other.items():
            if array[()] is None:
                assert own[name][()] is None
            else:
                np.testing.assert_allclose(own[name], array, 1e-6, 1e-7)
            assert own[name].dtype == array.dtype
        norm(images(dtype=norm._highprec_dtype))
        plain(images(dtype=norm._highprec_dtype))


def test_bn_arguments_work_by_position() -> None:
    arguments = (3, 0.8, 1e-4, np.float64, True, False, 0.5, None, (0, 2), 1, 2)
    norm, plain = IEBN(*arguments), L.BatchNormalization(*arguments)
    for name in ("decay", "eps", "axis", "beta"):
        assert getattr(norm, name) == getattr(plain, name)
    for name in ("avg_mean", "avg_var"):
        assert np.array_equal(getattr(norm, name), getattr(plain, name))


def test_initializers_of_the_attention_and_repr() -> None:
    norm = IEBN(2, use_beta=False, initial_weight_readjust=0.5, initial_bias_readjust=np.array([1.0, 2.0]))
    assert np.array_equal(norm.weight_readjust.array, [0.5, 0.5])
    assert np.array_equal(norm.bias_readjust.array, [1.0, 2.0])
    assert str(norm) == (
        "IEBN(size=2, decay=0.9, eps=2e-05, axis=None, dtype=float32, use_gamma=True, use_beta=False)"
    )
    assert str(IEBN(axis=0)).startswith("IEBN(size=None, ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"size, as in IEBN\(64\), or axis"),
        ({"axis": (2, 3)}, r"begin with 0.*got \(2, 3\)"),
        ({"axis": (0, 3, 2)}, r"ascending.*got \(0, 3, 2\)"),
        ({"axis": 1}, r"begin with 0.*got \(1,\)"),
    ],
)
def test_wrong_arguments_say_what_is_right(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        IEBN(**options)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(chainer.utils.type_check.InvalidType):
        IEBN(3)(images((4, 5, 6)))
    with pytest.raises(chainer.utils.type_check.InvalidType):
        IEBN(axis=(0, 2, 3), size=3)(images((4, 3, 6)))
    with pytest.raises(chainer.utils.type_check.InvalidType):
        IEBN(3)(np.zeros((4, 3), np.int64))


def test_an_empty_batch_changes_nothing() -> None:
    norm = shuffled(IEBN(3))
    before = norm.avg_mean.copy(), norm.avg_var.copy()
    x = Variable(images((0, 3, 5, 6)))
    y = norm(x)
    y.grad = np.zeros_like(y.array)
    norm.cleargrads()
    y.backward()
    assert (y.shape, x.grad.shape) == ((0, 3, 5, 6), (0, 3, 5, 6))
    assert not any(each.grad.any() for each in norm.params())
    assert np.array_equal(norm.avg_mean, before[0]) and np.array_equal(norm.avg_var, before[1])


def test_finetuning_and_testing_keep_statistics_as_batchnormalization_does() -> None:
    norm, plain = IEBN(3), L.BatchNormalization(3)

    def same() -> None:
        assert norm.N == plain.N
        np.testing.assert_allclose(norm.avg_mean, plain.avg_mean, 1e-6, 1e-7)
        np.testing.assert_allclose(norm.avg_var, plain.avg_var, 1e-6, 1e-7)

    for finetune in (False, True, True):
        for seed in range(3):
            norm(images(seed=seed), finetune=finetune)
            plain(images(seed=seed), finetune=finetune)
        same()
        norm.start_finetuning()
        plain.start_finetuning()
    norm(images(), finetune=True)
    before = norm.avg_mean.copy()
    np.testing.assert_allclose(before, images().mean((0, 2, 3)), rtol=1e-5)
    with chainer.using_config("train", False):
        whole, first = norm(images()).array, norm(images()[:1], finetune=True).array
    assert norm.N == 1
    assert np.array_equal(norm.avg_mean, before)
    np.testing.assert_allclose(whole[:1], first, rtol=1e-5, atol=1e-6)  # no sample depends on its batch


def test_mixed16() -> None:
    with chainer.using_config("dtype", chainer.mixed16):
        norm = shuffled(IEBN(3))
    x = Variable(images(dtype="float16"))
    y = norm(x)
    y.grad = images(seed=1, dtype="float16")
    norm.cleargrads()
    y.backward()
    assert (y.dtype, x.grad.dtype) == (np.float16, np.float16)
    assert {each.grad.dtype for each in norm.params()} == {np.dtype(np.float32)} == {norm.avg_var.dtype}


@pytest.mark.parametrize("loading", [3, None], ids=["size", "lazy"])
def test_a_file_of_batchnormalization_loads_strictly(loading: int | None) -> None:
    def network(kind: Any, size: int | None) -> chainer.Link:
        return Sequential(L.Convolution2D(3, 3, 1), kind(size, axis=(0, 2, 3)), F.relu)

    plain = shuffled(network(L.BatchNormalization, 3))
    plain(images())
    model = network(IEBN, loading)
    if loading:
        model[1].weight_readjust.array[...] = 0.5
    serializers.load_npz(saved(plain), model)
    for name in ("gamma", "beta"):
        assert np.array_equal(getattr(model[1], name).array, getattr(plain[1], name).array)
    assert np.array_equal(model[1].avg_var, plain[1].avg_var)
    assert np.array_equal(model[1].weight_readjust.array, np.full(3, 0.5 if loading else 0.0))
    assert np.array_equal(model[1].bias_readjust.array, np.full(3, -1.0))
    other = network(L.BatchNormalization, 3)
    serializers.load_npz(saved(model), other)  # and back, for files hold more than a link asks for
    assert np.array_equal(other(images()).array, plain(images()).array)


@pytest.mark.parametrize("loading", [3, None], ids=["size", "lazy"])
def test_its_own_file_loads(loading: int | None) -> None:
    norm, other = shuffled(IEBN(3)), IEBN(loading, axis=(0, 2, 3))
    norm(images(), finetune=True)
    serializers.load_npz(saved(norm), other)
    assert other.N == 1
    with chainer.using_config("train", False):
        assert np.array_equal(other(images()).array, norm(images()).array)


def test_an_incomplete_file_is_still_refused() -> None:
    state = tensors(IEBN(3))
    for missing in ("bias_readjust", "gamma", "avg_var"):
        rest = {name: array for name, array in state.items() if name != missing}
        with pytest.raises(KeyError, match=missing):
            serializers.NpzDeserializer(rest).load(IEBN(3))
        serializers.NpzDeserializer(rest, strict=False).load(IEBN(3))


def test_a_lazy_link_is_saved_and_loaded_before_it_has_a_size() -> None:
    norm = IEBN(axis=(0, 2, 3))
    serializers.load_npz(saved(L.BatchNormalization(axis=(0, 2, 3))), norm)
    serializers.load_npz(saved(norm), norm)
    assert norm(images()).shape == (8, 3, 5, 6)


def test_copies() -> None:
    norm = shuffled(IEBN(3))
    norm(images())
    with chainer.using_config("train", False):
        expected = norm(images()).array
        for each in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm)), norm.copy("copy"), norm.copy()):
            assert np.array_equal(each(images()).array, expected)
    shared, fresh = norm.copy("share"), norm.copy("init")
    assert shared.bias_readjust.array is norm.bias_readjust.array
    assert np.array_equal(fresh.bias_readjust.array, np.full(3, -1.0))
    assert np.array_equal(fresh.gamma.array, np.ones(3))
    several = Sequential(norm).repeat(2, "copy")
    several[0][0].bias_readjust.array[...] = 5.0
    assert len({id(link) for link in several.links()}) == 5
    assert not np.array_equal(several[1][0].bias_readjust.array, several[0][0].bias_readjust.array)


def test_forget_updates_statistics_once_and_gives_the_same_gradients() -> None:
    found = []
    for forget in (False, True):
        norm, x = shuffled(IEBN(3)), Variable(images())
        norm.cleargrads()
        y = F.forget(norm, x) if forget else norm(x)
        F.sum(y * images(seed=1)).backward()
        found.append([x.grad, norm.avg_mean, norm.avg_var, *(each.grad for _, each in norm.namedparams())])
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_to_device_and_training() -> None:
    model = Sequential(L.Convolution2D(3, 4, 3), IEBN(4), F.relu, L.Linear(None, 2)).to_device("@numpy")
    optimizer = chainer.optimizers.SGD(0.1).setup(model)
    before = model[1].bias_readjust.array.copy()
    for _ in range(2):
        model.cleargrads()
        F.softmax_cross_entropy(model(images()), np.arange(8) % 2).backward()
        optimizer.update()
    assert not np.array_equal(model[1].bias_readjust.array, before)
    assert model[1].weight_readjust.array.any()
