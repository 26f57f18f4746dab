"""IEBN's values and gradients: against the NumPy reference, PyTorch's layer, and BatchNorm's statistics."""

import numpy as np
import paddle
import pytest
import torch
from paddle import nn

import mixlayers.torch
from tests.paddle.iebn_parts import (
    LAYERS,
    NAMES,
    STATISTICS,
    allowed,
    array,
    close,
    layer,
    random,
    reference,
    run,
    set_,
)
from tests.paddle.iebn_parts import compiled as compiled
from tests.support.reference_iebn import running_statistics

SMALL = [(6, 5), (6, 5, 7), (4, 3, 5, 6), (3, 4, 2, 3, 5)]
LARGE = [(32, 16, 160), (16, 24, 16, 16), (3, 5, 80, 70), (40, 32, 4, 4), (9, 12, 5, 12, 14)]
HOSTS = {2: nn.BatchNorm1D, 3: nn.BatchNorm1D, 4: nn.BatchNorm2D, 5: nn.BatchNorm3D}
LAST = {2: "NC", 3: "NLC", 4: "NHWC", 5: "NDHWC"}
FIRST = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}


@pytest.mark.parametrize("last", [False, True], ids=["channels second", "channels last"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", SMALL + LARGE, ids=str)
@pytest.mark.parametrize(("dtype", "value", "slope"), [("float64", 1e-12, 1e-10), ("float32", None, None)])
def test_equals_the_reference(
    compiled: bool,
    dtype: str,
    value: float | None,
    slope: float | None,
    shape: tuple[int, ...],
    training: bool,
    last: bool,
) -> None:
    x, gradient = (random(shape, seed).astype(dtype).astype("float64") for seed in (1, 2))
    norm = layer(shape, dtype, data_format=(LAST if last else FIRST)[len(shape)])
    norm.training = training
    before = array(norm._mean), array(norm._variance)
    atmost = allowed(norm, x, gradient, training, own=compiled)
    expected, found = reference(norm, x, gradient, training), run(norm, x, gradient, last)
    for place, (one, other, limit) in enumerate(zip(found, expected, atmost, strict=True)):
        if value is None:
            assert (np.abs(one - other) <= limit).all(), place
        else:
            close(one, other, slope if place else value)
    after = running_statistics(x, *before, unbiased=False) if training else before
    for name, expected in zip(STATISTICS, after, strict=True):
        close(array(getattr(norm, name)), expected, 1e-6)  # Paddle keeps its momentum in float32


@pytest.mark.parametrize("use_global_stats", [True, False])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_use_global_stats(compiled: bool, use_global_stats: bool, training: bool) -> None:
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
    plain(paddle.to_tensor(x))
    for name in STATISTICS:
        close(
            array(getattr(norm, name)), array(getattr(plain, name)), 1e-6
        )  # Paddle keeps its momentum in float32


@pytest.mark.parametrize("attrs", [("weight",), ("bias",), ("weight", "bias")], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["channels second", "channels last"])
def test_without_weight_or_bias_the_rest_trains(
    compiled: bool, last: bool, training: bool, attrs: tuple[str, ...]
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
def test_running_statistics_are_those_of_batchnorm(compiled: bool, shape: tuple[int, ...]) -> None:
    norm, plain = LAYERS[len(shape)](shape[1], momentum=0.83), HOSTS[len(shape)](shape[1], momentum=0.83)
    for seed in range(4):
        x = random(shape, seed).astype("float32")
        norm(paddle.to_tensor(x))
        plain(paddle.to_tensor(x))
    for name in STATISTICS:
        close(
            array(getattr(norm, name)), array(getattr(plain, name)), 1e-6
        )  # Paddle keeps its momentum in float32


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_torch_on_the_same_numbers(compiled: bool, training: bool) -> None:
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


def test_attention_near_zero_and_weights_of_zero(compiled: bool) -> None:
    shape = (16, 24, 16, 16)
    norm = layer(shape)
    set_(norm.bias_readjust, np.linspace(-800, 800, 24))
    set_(norm.weight, np.arange(24.0) % 3)
    x, gradient = random(shape, 1), random(shape, 2)
    expected = reference(norm, x, gradient, True)
    for one, other in zip(run(norm, x, gradient), expected, strict=True):
        close(one, other, 1e-10)


@pytest.mark.parametrize("mean", [100.0, 1000.0])
def test_far_from_zero_it_is_as_precise_as_batchnorm(compiled: bool, mean: float) -> None:
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
    y = plain(given)
    paddle.autograd.backward([y], [paddle.to_tensor(gradient.astype("float32"))])
    exact = reference(norm, x.astype("float64"), gradient, True)
    for ours, theirs, truth in zip(own[:2], (y, given.grad), exact, strict=False):
        error = np.abs(array(theirs) - truth).max()
        assert np.abs(ours - truth).max() <= 2 * error + 1e-6
