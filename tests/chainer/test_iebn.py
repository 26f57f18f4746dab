"""IEBN's values and gradients: against the NumPy reference, and Chainer's own batch normalisation."""

from collections.abc import Callable

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Variable

from mixlayers_chainer._iebn.layer import IEBN
from mixlayers_native._library import library
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics
from tests.support.rounding import limits

NAMES = ("gamma", "beta", "weight_readjust", "bias_readjust")
SHAPES = {  # and what to normalise over
    (6, 5): None,
    (6, 5, 7): None,
    (4, 3, 5, 6): None,
    (3, 4, 2, 3, 5): None,
    (5, 1, 4, 4): None,
    (1, 4, 6, 6): None,
    (4, 5, 6, 3): (0, 1, 2),
    (6, 5, 7, 4): (0, 2),
    (4, 5, 3, 6): (0, 1, 3),
    (6, 4, 3): (0,),
    (40, 24, 16, 16): None,
    (40, 16, 16, 24): (0, 1, 2),
}


@pytest.fixture(params=[True, False], ids=["compiled passes", "NumPy"], autouse=True)
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with the library and without."""
    if request.param:
        assert library() is not None, "the passes are not built: make setup, on a machine with a compiler"
    else:
        monkeypatch.setattr("mixlayers_chainer._iebn.native.library", lambda: None)


def axis_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return SHAPES.get(shape) or (0, *range(2, len(shape)))


def layer(shape: tuple[int, ...], dtype: str = "float32", **options: object) -> IEBN:
    """An IEBN with random parameters and statistics."""
    rng = np.random.default_rng(0)
    axis = axis_of(shape)
    size = tuple(n for i, n in enumerate(shape) if i not in axis)
    new = IEBN(size, axis=axis, dtype=dtype, **options)
    for name in NAMES:
        if getattr(new, name) is not None:
            getattr(new, name).array[...] = rng.standard_normal(size)
    new.avg_mean[...] = rng.standard_normal(size)
    new.avg_var[...] = 0.5 + rng.random(size)
    return new


def random(shape: tuple[int, ...], seed: int = 1, dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 1.5 + 0.7).astype(dtype)


def canonical(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """float64 in the reference's order, (N, C, ...)."""
    channels = [i for i in range(x.ndim) if i not in axis]
    moved = x.transpose([0, *channels, *axis[1:]])
    space = [x.shape[i] for i in axis[1:]]
    return moved.reshape(len(x), -1, *space).astype(np.float64)


def run(norm: IEBN, x: np.ndarray, gradient: np.ndarray) -> list[np.ndarray]:
    """Output, gradients of x and of the parameters, in the reference's order."""
    variable = Variable(x)
    y = norm(variable)
    y.grad = gradient.astype(y.dtype)
    norm.cleargrads()
    y.backward()
    assert (y.shape, y.dtype, variable.grad.dtype) == (x.shape, x.dtype, x.dtype)
    features = [canonical(each, norm.axis) for each in (y.array, variable.grad)]
    return features + [getattr(norm, name).grad.reshape(-1) for name in NAMES]


def reference(norm: IEBN, x: np.ndarray, gradient: np.ndarray, training: bool) -> list[np.ndarray]:
    vectors = [getattr(norm, name).array.astype(np.float64).reshape(-1) for name in NAMES]
    kept = {} if training else {"mean": norm.avg_mean.reshape(-1), "var": norm.avg_var.reshape(-1)}
    kept = {name: each.astype(np.float64) for name, each in kept.items()}
    x, gradient = canonical(x, norm.axis), canonical(gradient, norm.axis)
    found = iebn_backward(gradient, x, *vectors, eps=norm.eps, **kept)
    slopes = [found.x, found.weight, found.bias, found.weight_readjust, found.bias_readjust]
    return [iebn(x, *vectors, eps=norm.eps, **kept), *slopes]


def close(one: np.ndarray, other: np.ndarray, tolerance: float) -> None:
    """Alike, measured by the largest value there is."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= tolerance * max(1e-3, np.abs(other).max())


@pytest.mark.parametrize("training", [True, False], ids=["train", "test"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "value", "slope"), [("float64", 1e-12, 1e-10), ("float32", None, None)])
def test_equals_the_reference(
    dtype: str, value: float | None, slope: float | None, shape: tuple[int, ...], training: bool
) -> None:
    x, gradient = random(shape, 1, dtype), random(shape, 2, dtype)
    norm = layer(shape, dtype)
    before = [each.astype(np.float64).reshape(-1) for each in (norm.avg_mean, norm.avg_var)]
    expected = reference(norm, x, gradient, training)
    vectors = [getattr(norm, name).array.astype(np.float64).reshape(-1) for name in NAMES]
    kept = {} if training else dict(zip(("mean", "var"), before, strict=True))
    canon = (canonical(each, norm.axis) for each in (gradient, x))
    atmost = limits(*canon, *vectors, eps=norm.eps, **kept)
    with chainer.using_config("train", training):
        found = run(norm, x, gradient)
    for place, (one, other, limit) in enumerate(zip(found, expected, atmost, strict=True)):
        if value is None:
            assert (np.abs(one - other) <= limit).all(), place
        else:
            close(one, other, slope if place else value)
    after = running_statistics(canonical(x, norm.axis), *before) if training else before
    close(norm.avg_mean.reshape(-1), after[0], value or 1e-5)
    close(norm.avg_var.reshape(-1), after[1], value or 1e-5)


@pytest.mark.parametrize("shape", [(40, 24, 16, 16), (40, 16, 16, 24), (64, 5)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 1000.0, 1e5])
def test_float32_keeps_its_digits_far_from_zero(mean: float, shape: tuple[int, ...]) -> None:
    x = (random(shape, dtype="float64") * 0.1 + mean).astype(np.float32)
    if mean == 0:  # beside ordinary channels, one of zeros and one constant
        channels = x.T if axis_of(shape)[-1] < 3 else x.swapaxes(0, 1)
        channels[0], channels[1] = 0.0, 7.0
    norm, gradient = layer(shape), random(shape, 2)
    norm.weight_readjust.array /= max(
        1.0, mean
    )  # else the attention's own input, a large float32, is too coarse
    expected = reference(norm, x, gradient, True)
    for one, other in zip(run(norm, x, gradient), expected, strict=True):
        close(one, other, 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(6, 5, 7), (40, 24, 16, 16), (40, 16, 16, 24)], ids=str)
def test_half_precision_with_parameters_of_either_kind(shape: tuple[int, ...], dtype: str) -> None:
    x, gradient = random(shape, 1, "float16"), random(shape, 2, "float16")
    norm = layer(shape, dtype)
    expected = reference(norm, x, gradient, True)
    for one, other in zip(run(norm, x, gradient), expected, strict=True):
        close(one, other, 2e-3)
    assert norm.gamma.grad.dtype == dtype


@pytest.mark.parametrize("contiguous", [True, False], ids=["contiguous", "transposed"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_running_statistics_are_those_of_batchnormalization(
    shape: tuple[int, ...], dtype: str, contiguous: bool
) -> None:
    axis = axis_of(shape)
    size = tuple(n for i, n in enumerate(shape) if i not in axis)
    parameters = "float32" if dtype == "float16" else dtype
    norm, plain = (kind(size, 0.37, axis=axis, dtype=parameters) for kind in (IEBN, L.BatchNormalization))
    for seed in range(3):
        x = random(shape, seed, dtype) if contiguous else random(shape[::-1], seed, dtype).T
        norm(x)
        plain(x)
    same = {"float16": (2e-3, 2e-3), "float32": (1e-5, 5e-7), "float64": (1e-13, 1e-14)}[dtype]
    np.testing.assert_allclose(norm.avg_mean, plain.avg_mean, *same)
    np.testing.assert_allclose(norm.avg_var, plain.avg_var, *same)
    assert (norm.avg_mean.dtype, norm.avg_var.dtype) == (plain.avg_mean.dtype, plain.avg_var.dtype)


@pytest.mark.parametrize("training", [True, False], ids=["train", "test"])
@pytest.mark.parametrize("shape", [(3, 2, 3, 4), (4, 5, 6, 3), (6, 4, 3)], ids=str)
def test_gradients_of_both_orders_are_those_of_differences(shape: tuple[int, ...], training: bool) -> None:
    norm, gradient = layer(shape, "float64"), random(shape, 2, "float64")
    values = [random(shape, dtype="float64"), *(getattr(norm, name).array for name in NAMES)]
    again, way = ([random(each.shape, seed, "float64") for each in values] for seed in (3, 4))

    def slopes(at: list[np.ndarray], keep: bool = False) -> tuple[list[Variable], Variable, list[Variable]]:
        variables = [Variable(each) for each in at]
        vars(norm).update(zip(NAMES, variables[1:], strict=True))
        loss = F.sum(norm(variables[0]) * gradient)
        return variables, loss, chainer.grad([loss], variables, enable_double_backprop=keep)

    def difference(f: Callable[[list[np.ndarray]], float]) -> float:
        there, back = ([v + h * w for v, w in zip(values, way, strict=True)] for h in (1e-5, -1e-5))
        return (f(there) - f(back)) / 2e-5

    def along(found: list[Variable], direction: list[np.ndarray]) -> float:
        pairs = zip(found, direction, strict=True)  # a gradient that is 0 throughout is None
        return float(sum((each.array * d).sum() for each, d in pairs if each is not None))

    with chainer.using_config("train", training), chainer.using_config("in_recomputing", True):
        first = difference(lambda at: float(slopes(at)[1].array))
        second = difference(lambda at: along(slopes(at)[2], again))
        variables, _, found = slopes(values, keep=True)
        assert along(slopes(values)[2], way) == pytest.approx(first, rel=1e-7)
        assert along(found, way) == pytest.approx(first, rel=1e-7)
        total = sum(F.sum(each * other) for each, other in zip(found, again, strict=True))
        assert along(chainer.grad([total], variables), way) == pytest.approx(second, rel=1e-6)


def test_second_derivatives_go_through_the_layers_around() -> None:
    """A gradient penalty on the input, through two links: its gradients are those of the published formula."""
    x, shape = random((4, 3, 5, 6), dtype="float64"), (4, 3, 5, 6)
    links = chainer.ChainList(L.Scale(1, (3,)), layer(shape, "float64"), layer(shape, "float64"))
    links[0].W.array = random((3,), 5, "float64")

    def formula(norm: IEBN, x: Variable) -> Variable:
        centred = x - F.mean(x, norm.axis, keepdims=True)
        xhat = centred / F.sqrt(F.mean(centred**2, norm.axis, keepdims=True) + norm.eps)
        gamma, beta, weight, bias = (F.reshape(getattr(norm, name), (1, -1, 1, 1)) for name in NAMES)
        return xhat * gamma * F.sigmoid(weight * F.mean(x, (2, 3), keepdims=True) + bias) + beta

    def penalty(apply: object) -> dict[str, np.ndarray]:
        links.cleargrads()
        variable = Variable(x)
        y = F.sum(F.tanh(apply(links[2], F.tanh(apply(links[1], links[0](variable))))))
        (slope,) = chainer.grad([y], [variable], enable_double_backprop=True)
        (y + F.sum(slope**2)).backward()
        return {name: each.grad for name, each in links.namedparams()} | {"x": variable.grad}

    found, expected = penalty(lambda norm, x: norm(x)), penalty(formula)
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        close(found[name], each, 1e-10)


@pytest.mark.parametrize("options", [{"use_gamma": False}, {"use_beta": False}], ids=str)
def test_without_gamma_or_beta(options: dict[str, bool]) -> None:
    shape = (4, 3, 5, 6)
    norm, whole, x = layer(shape, **options), layer(shape), random(shape)
    for name in NAMES:
        own = getattr(norm, name)
        getattr(whole, name).array[...] = {"gamma": 1.0, "beta": 0.0}[name] if own is None else own.array
    variables, outputs = [Variable(x), Variable(x)], []
    for each, variable in zip((norm, whole), variables, strict=True):
        each.cleargrads()
        outputs.append(each(variable))
        outputs[-1].grad = random(shape, 2)
        outputs[-1].backward()
    assert np.array_equal(outputs[0].array, outputs[1].array)
    assert np.array_equal(variables[0].grad, variables[1].grad)
    for name, parameter in norm.namedparams():
        assert np.array_equal(parameter.grad, getattr(whole, name[1:]).grad)


def test_attention_at_the_start_scales_batchnormalization() -> None:
    x = random((40, 24, 16, 16))
    expected = L.BatchNormalization(24)(x).array / (1 + np.e)
    np.testing.assert_allclose(IEBN(24)(x).array, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)], ids=str)
def test_a_batch_of_one_value_gives_beta_and_warns(shape: tuple[int, ...]) -> None:
    norm, plain = layer(shape), L.BatchNormalization(3)
    plain.avg_mean[...], plain.avg_var[...] = norm.avg_mean, norm.avg_var
    with pytest.warns(UserWarning, match="one value a channel") as caught:
        y = norm(random(shape))
    assert caught[0].filename == __file__
    assert np.array_equal(y.array.reshape(-1), norm.beta.array)
    with pytest.warns(UserWarning, match="no more than one sample"):
        plain(random(shape))
    np.testing.assert_allclose(norm.avg_mean, plain.avg_mean, 1e-6)
    np.testing.assert_allclose(norm.avg_var, plain.avg_var, 1e-6)


def test_the_sigmoid_neither_overflows_nor_loses_digits() -> None:
    norm, x = layer((4, 3, 5, 6), "float64"), random((4, 3, 5, 6), dtype="float64")
    norm.bias_readjust.array[...] = (-800.0, -40.0, 800.0)
    expected = reference(norm, x, x, True)
    found = run(norm, x, x)
    for channel in range(3):
        np.testing.assert_allclose(found[0][:, channel], expected[0][:, channel], rtol=1e-12)
        np.testing.assert_allclose(found[4][channel], expected[4][channel], rtol=1e-10)


def test_the_first_link_of_a_model_needs_no_gradient_of_x() -> None:
    norm, x = layer((4, 3, 5, 6)), Variable(random((4, 3, 5, 6)), requires_grad=False)
    norm.cleargrads()
    y = norm(x)
    y.grad = random(x.shape, 2)
    y.backward()
    assert x.grad is None
    assert all(np.isfinite(parameter.grad).all() for parameter in norm.params())
