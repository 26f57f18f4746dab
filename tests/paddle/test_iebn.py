"""IEBN's values and gradients: against the NumPy reference, PyTorch's layer, and BatchNorm's statistics."""

import numpy as np
import paddle
import pytest
import torch
from paddle import nn

import mixlayers.torch
from mixlayers._reference_iebn import iebn, iebn_backward, running_statistics
from mixlayers_paddle._iebn import IEBN1D, IEBN2D, IEBN3D

SMALL = [(6, 5), (6, 5, 7), (4, 3, 5, 6), (3, 4, 2, 3, 5)]
LARGE = [(32, 16, 160), (16, 24, 16, 16), (3, 5, 80, 70), (40, 32, 4, 4), (9, 12, 5, 12, 14)]
LAYERS = {2: IEBN1D, 3: IEBN1D, 4: IEBN2D, 5: IEBN3D}
HOSTS = {2: nn.BatchNorm1D, 3: nn.BatchNorm1D, 4: nn.BatchNorm2D, 5: nn.BatchNorm3D}
LAST = {2: "NC", 3: "NLC", 4: "NHWC", 5: "NDHWC"}
FIRST = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}
NAMES = ("weight", "bias", "weight_readjust", "bias_readjust")
STATISTICS = ("_mean", "_variance")


@pytest.fixture(params=["formula", "fused"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The published formula, or own kernels whatever the size."""
    monkeypatch.setattr("mixlayers_paddle._iebn_fused.SMALL", 0)
    monkeypatch.setattr("mixlayers_paddle._iebn._IEBN.fused", request.param == "fused")
    return request.param


def layer(shape: tuple[int, ...], dtype: str = "float64", **options: object) -> nn.Layer:
    """An IEBN with random parameters and statistics."""
    rng = np.random.default_rng(3)
    new = LAYERS[len(shape)](shape[1], **options)
    new.to(dtype=dtype)
    for name in NAMES:
        if getattr(new, name) is not None:
            set_(getattr(new, name), rng.normal(size=shape[1]))
    set_(new._mean, rng.normal(size=shape[1]))
    set_(new._variance, rng.uniform(0.5, 1.5, shape[1]))
    return new


def set_(tensor: paddle.Tensor, values: np.ndarray) -> None:
    tensor.set_value(values.astype(dtype_of(tensor)))


def dtype_of(tensor: paddle.Tensor) -> str:
    return str(tensor.dtype).removeprefix("paddle.")


def array(tensor: paddle.Tensor) -> np.ndarray:
    return tensor.numpy().astype("float64")


def random(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) * 1.5 + 0.7


def run(norm: nn.Layer, x: np.ndarray, gradient: np.ndarray, last: bool = False) -> list[np.ndarray]:
    """Output, and the gradients of x and the parameters in the reference's order; the channels second again."""
    dtype = dtype_of(norm._mean)
    x, gradient = (np.moveaxis(each, 1, -1) if last else each for each in (x, gradient))
    given = paddle.to_tensor(x.astype(dtype), stop_gradient=False)
    y = norm(given)
    assert y.dtype == given.dtype and y.shape == given.shape
    norm.clear_gradients(set_to_zero=False)
    paddle.autograd.backward([y], [paddle.to_tensor(gradient.astype(dtype))])
    found = [np.moveaxis(array(each), -1, 1) if last else array(each) for each in (y, given.grad)]
    return found + [array(getattr(norm, name).grad) for name in NAMES if getattr(norm, name) is not None]


def reference(norm: nn.Layer, x: np.ndarray, gradient: np.ndarray, batch: bool) -> list[np.ndarray]:
    """The same from the NumPy reference, in float64."""
    starts = {"weight": np.ones, "bias": np.zeros}
    own = {name: getattr(norm, name) for name in NAMES}
    vectors = [starts[name](x.shape[1]) if p is None else array(p) for name, p in own.items()]
    kept = {} if batch else {"mean": array(norm._mean), "var": array(norm._variance)}
    found = iebn_backward(gradient, x, *vectors, eps=norm._epsilon, **kept)
    gradients = [getattr(found, name) for name, p in own.items() if p is not None]
    return [iebn(x, *vectors, eps=norm._epsilon, **kept), found.x, *gradients]


def close(one: np.ndarray, other: np.ndarray, tolerance: float) -> None:
    """Alike, measured by the largest value there is."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= tolerance * max(1e-3, np.abs(other).max())


@pytest.mark.parametrize("last", [False, True], ids=["channels second", "channels last"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", SMALL + LARGE, ids=str)
@pytest.mark.parametrize(("dtype", "value", "slope"), [("float64", 1e-12, 1e-10), ("float32", 1e-5, 1e-5)])
def test_equals_the_reference(
    way: str, dtype: str, value: float, slope: float, shape: tuple[int, ...], training: bool, last: bool
) -> None:
    x, gradient = (random(shape, seed).astype(dtype).astype("float64") for seed in (1, 2))
    norm = layer(shape, dtype, data_format=(LAST if last else FIRST)[len(shape)])
    norm.training = training
    before = array(norm._mean), array(norm._variance)
    (y, *slopes), (found, *gradients) = reference(norm, x, gradient, training), run(norm, x, gradient, last)
    close(found, y, value)
    for one, other in zip(gradients, slopes, strict=True):
        close(one, other, slope)
    after = running_statistics(x, *before, unbiased=False) if training else before
    for name, expected in zip(STATISTICS, after, strict=True):
        close(array(getattr(norm, name)), expected, 1e-6)  # Paddle keeps its momentum in float32


@pytest.mark.parametrize("use_global_stats", [True, False])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_use_global_stats(way: str, use_global_stats: bool, training: bool) -> None:
    shape = (16, 24, 8, 8)
    x, gradient = random(shape, 1), random(shape, 2)
    norm, plain = (
        layer(shape, use_global_stats=use_global_stats),
        nn.BatchNorm2D(24, use_global_stats=use_global_stats),
    )
    plain.to(dtype="float64")
    for name in STATISTICS:
        getattr(plain, name).set_value(getattr(norm, name))
    norm.training = plain.training = training
    expected = reference(norm, x, gradient, not use_global_stats)
    for one, other in zip(run(norm, x, gradient), expected, strict=True):
        close(one, other, 1e-10)
    plain(paddle.to_tensor(x)) if not training else quiet(plain, x)
    for name in STATISTICS:
        assert np.array_equal(getattr(norm, name).numpy(), getattr(plain, name).numpy())


@pytest.mark.filterwarnings(
    "ignore:When training, we now always track"
)  # what Paddle's BatchNorm says each time
def quiet(plain: nn.Layer, x: np.ndarray) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain(paddle.to_tensor(x))


@pytest.mark.parametrize("attrs", [("weight",), ("bias",), ("weight", "bias")], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["channels second", "channels last"])
def test_without_weight_or_bias_the_rest_trains(
    way: str, last: bool, training: bool, attrs: tuple[str, ...]
) -> None:
    shape = (4, 6, 5, 5)
    norm = layer(shape, **{f"{name}_attr": False for name in attrs}, data_format="NHWC" if last else "NCHW")
    norm.training = training
    assert [name for name in NAMES if getattr(norm, name) is None] == list(attrs)
    x, gradient = random(shape, 1), random(shape, 2)
    expected = reference(norm, x, gradient, training)
    for one, other in zip(run(norm, x, gradient, last), expected, strict=True):
        close(one, other, 1e-10)


@pytest.mark.parametrize(
    "shape", [(6, 5), (6, 5, 7), (4, 3, 5, 6), (16, 24, 32, 32), (3, 4, 2, 3, 5)], ids=str
)
def test_running_statistics_are_those_of_batchnorm(way: str, shape: tuple[int, ...]) -> None:
    norm, plain = LAYERS[len(shape)](shape[1], momentum=0.83), HOSTS[len(shape)](shape[1], momentum=0.83)
    for seed in range(4):
        x = random(shape, seed).astype("float32")
        norm(paddle.to_tensor(x))
        quiet(plain, x)
    for name in STATISTICS:
        assert np.array_equal(getattr(norm, name).numpy(), getattr(plain, name).numpy())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_torch_on_the_same_numbers(way: str, training: bool) -> None:
    shape = (16, 24, 16, 16)
    x, gradient = random(shape, 1), random(shape, 2)
    norm = layer(shape)
    other = mixlayers.torch.IEBN2d(24).double()
    names = dict(zip(STATISTICS, ("running_mean", "running_var"), strict=True))
    state = {names.get(key, key): torch.tensor(array(value)) for key, value in norm.state_dict().items()}
    other.load_state_dict(state | {"num_batches_tracked": torch.tensor(0)})
    norm.training = training
    other.train(training)
    given = torch.tensor(x, requires_grad=True)
    y = other(given)
    y.backward(torch.tensor(gradient))
    expected = [y.detach(), given.grad, *(getattr(other, name).grad for name in NAMES)]
    for one, tensor in zip(run(norm, x, gradient), expected, strict=True):
        close(one, tensor.numpy(), 1e-10)
    close(array(norm._mean), other.running_mean.numpy(), 1e-6)


def test_attention_near_zero_and_weights_of_zero(way: str) -> None:
    shape = (16, 24, 16, 16)
    norm = layer(shape)
    set_(norm.bias_readjust, np.linspace(-800, 800, 24))
    set_(norm.weight, np.arange(24.0) % 3)
    x, gradient = random(shape, 1), random(shape, 2)
    expected = reference(norm, x, gradient, True)
    for one, other in zip(run(norm, x, gradient), expected, strict=True):
        close(one, other, 1e-10)


@pytest.mark.parametrize("mean", [100.0, 1000.0])
def test_far_from_zero_it_is_as_precise_as_batchnorm(way: str, mean: float) -> None:
    shape = (16, 24, 16, 16)
    x, gradient = random(shape, 1).astype("float32") + np.float32(mean), random(shape, 2)
    norm, plain = layer(shape, "float32"), nn.BatchNorm2D(24)
    set_(norm.weight, np.ones(24))
    set_(norm.bias, np.zeros(24))
    set_(norm.weight_readjust, np.zeros(24))
    set_(norm.bias_readjust, np.full(24, 30.0))  # the attention is 1: IEBN is BatchNorm
    own = run(norm, x, gradient)
    given = paddle.to_tensor(x, stop_gradient=False)
    plain.train()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = plain(given)
    paddle.autograd.backward([y], [paddle.to_tensor(gradient.astype("float32"))])
    exact = reference(norm, x.astype("float64"), gradient, True)
    for ours, theirs, truth in zip(own[:2], (y, given.grad), exact, strict=False):
        error = np.abs(array(theirs) - truth).max()
        assert np.abs(ours - truth).max() <= 2 * error + 1e-6


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_second_derivatives(way: str, training: bool) -> None:
    """A gradient penalty: against differences of first derivatives."""
    if way == "fused":
        pytest.skip("asks for a part of the gradients only")
    shape = (3, 2, 3, 4)
    norm = layer(shape)
    norm.training = training
    x, step = random(shape), np.random.default_rng(5).normal(size=shape)

    def slope(values: np.ndarray, graph: bool) -> tuple[paddle.Tensor, paddle.Tensor]:
        given = paddle.to_tensor(values, stop_gradient=False)
        loss = (norm(given) ** 3).sum()
        return given, paddle.grad([loss], [given], create_graph=graph)[0]

    given, first = slope(x, True)
    (found,) = paddle.grad([(first * paddle.to_tensor(step)).sum()], [given])
    tiny = 1e-6
    ahead, behind = (slope(x + sign * tiny * step, False)[1].numpy() for sign in (1, -1))
    close(found.numpy(), (ahead - behind) / (2 * tiny), 1e-5)


def test_first_layer_of_a_model_needs_no_gradient_of_x(way: str) -> None:
    norm = layer((16, 24, 16, 16))
    norm(paddle.to_tensor(random((16, 24, 16, 16)))).sum().backward()
    assert all(getattr(norm, name).grad is not None for name in NAMES)


def test_a_retained_graph_runs_again_or_says_why_not(way: str) -> None:
    norm, x = layer((4, 3, 5, 9)), paddle.to_tensor(random((4, 3, 5, 9)), stop_gradient=False)
    loss = nn.functional.relu(norm(x)).sum()
    loss.backward(retain_graph=True)
    once = x.grad.numpy()
    if way == "fused":
        with pytest.raises(OSError, match="leave `fused` at False"):  # Paddle's wrapping
            loss.backward()
    else:
        loss.backward()
        close(x.grad.numpy(), 2 * once, 1e-12)
