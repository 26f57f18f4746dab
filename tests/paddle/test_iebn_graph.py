"""IEBN in Paddle's graphs: second derivatives, graphs that run twice, some gradients only, frozen parameters."""

import gc

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers_paddle._iebn.native import _Step
from tests.paddle.iebn_parts import NAMES, array, close, layer, random, reference, run
from tests.paddle.iebn_parts import compiled as compiled


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_second_derivatives(compiled: bool, training: bool) -> None:
    """A gradient penalty: against differences of first derivatives."""
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


def test_first_layer_of_a_model_needs_no_gradient_of_x(compiled: bool) -> None:
    norm = layer((16, 24, 16, 16))
    norm(paddle.to_tensor(random((16, 24, 16, 16)))).sum().backward()
    assert all(getattr(norm, name).grad is not None for name in NAMES)


def test_a_retained_graph_runs_again(compiled: bool) -> None:
    norm, x = layer((4, 3, 5, 9)), paddle.to_tensor(random((4, 3, 5, 9)), stop_gradient=False)
    loss = nn.functional.relu(norm(x)).sum()
    loss.backward(retain_graph=True)
    once = x.grad.numpy()
    loss.backward()
    close(x.grad.numpy(), 2 * once, 1e-12)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("wanted", ["x", *NAMES])
def test_asking_for_one_gradient_only(compiled: bool, wanted: str, training: bool) -> None:
    shape = (4, 3, 5, 9)
    norm, x, gradient = layer(shape), random(shape, 1), random(shape, 2)
    norm.training = training
    expected = dict(zip(("x", *NAMES), reference(norm, x, gradient, training)[1:], strict=True))
    given = paddle.to_tensor(x, stop_gradient=False)
    of = given if wanted == "x" else getattr(norm, wanted)
    for _ in range(2):
        (found,) = paddle.grad([norm(given)], [of], [paddle.to_tensor(gradient)])
        close(array(found), expected[wanted], 1e-10)


@pytest.mark.parametrize("frozen", [("weight",), ("bias", "weight_readjust"), NAMES], ids=str)
def test_frozen_parameters(compiled: bool, frozen: tuple[str, ...]) -> None:
    shape = (4, 3, 5, 9)
    norm, x, gradient = layer(shape), random(shape, 1), random(shape, 2)
    expected = dict(zip(("x", *NAMES), reference(norm, x, gradient, True)[1:], strict=True))
    for name in frozen:
        getattr(norm, name).stop_gradient = True
    given = paddle.to_tensor(x, stop_gradient=False)
    paddle.autograd.backward([norm(given)], [paddle.to_tensor(gradient)])
    close(array(given.grad), expected["x"], 1e-10)
    for name in NAMES:
        if name in frozen:
            assert getattr(norm, name).grad is None
        else:
            close(array(getattr(norm, name).grad), expected[name], 1e-10)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_channels(compiled: bool, value: float) -> None:
    shape = (4, 3, 5, 9)
    norm, x, gradient = layer(shape), random(shape, 1), random(shape, 2)
    x[:, 1] = value
    expected = reference(norm, x, gradient, True)
    for one, other in zip(run(norm, x, gradient), expected, strict=True):
        close(one, other, 1e-7)  # Paddle keeps its epsilon in float32


def test_no_step_is_kept_alive(compiled: bool) -> None:
    def steps() -> int:
        gc.collect()
        return sum(type(each) is _Step for each in gc.get_objects())

    before, norm = steps(), layer((4, 3, 5, 9))
    x = paddle.to_tensor(random((4, 3, 5, 9)), stop_gradient=False)
    y = norm(x * 1.0)
    assert steps() - before == (compiled)
    y.sum().backward(retain_graph=True)
    paddle.grad([y], [norm.weight])
    del y
    assert steps() == before


@pytest.mark.parametrize("only_x", [True, False])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_second_derivatives_with_tied_parameters_are_those_of_paddles_operations(
    training: bool, only_x: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norm is applied twice, and its input is made from a parameter of its own; the weight is frozen."""
    shape = (3, 2, 3, 4)
    norm = layer(shape)
    norm.training = training
    norm.weight.stop_gradient = True
    names = ("bias", "weight_readjust", "bias_readjust")

    def penalised() -> list[np.ndarray]:
        given = paddle.to_tensor(random(shape), stop_gradient=False)
        y = norm(paddle.tanh(norm(given * norm.bias.sum())))
        wanted = [given, *(getattr(norm, name) for name in names)]
        first = paddle.grad([(y**3).sum()], wanted, create_graph=True)[: 1 if only_x else None]
        penalty = sum((each**2).sum() for each in first)
        return [array(each) for each in (*first, *paddle.grad([penalty], wanted))]

    found = penalised()
    monkeypatch.setattr("mixlayers_paddle._iebn.native.library", lambda: None)
    for one, other in zip(found, penalised(), strict=True):
        close(one, other, 1e-8)


def test_an_input_that_its_maker_keeps_is_left_as_it_is(compiled: bool) -> None:
    """Paddle counts changes in place, also of views: none may reach the input."""
    norm, x = layer((4, 3, 5, 9)), paddle.to_tensor(random((4, 3, 5, 9)), stop_gradient=False)
    kept = paddle.tanh(x)  # its gradient needs its output
    norm(kept).sum().backward()
    assert kept.inplace_version == 0 and np.isfinite(x.grad.numpy()).all()


def test_an_input_changed_in_place_after_the_forward_is_refused(compiled: bool) -> None:
    norm, x = layer((4, 3, 5, 9)), paddle.to_tensor(random((4, 3, 5, 9)), stop_gradient=False)
    given = x * 1.0
    y = norm(given)
    given.add_(paddle.ones([1], "float64"))
    with pytest.raises((OSError, RuntimeError), match=r"in place|inplace"):
        y.sum().backward()


@pytest.mark.parametrize("format", ["NCHW", "NHWC"])
def test_what_comes_before_and_after_in_a_network(compiled: bool, format: str) -> None:
    """A gradient that comes from a transposed use, and one that goes on into a convolution."""
    shape = (4, 3, 5, 9)
    norm, x, gradient = layer(shape, data_format=format), random(shape, 1), random(shape, 2)
    expected = reference(norm, x, gradient, True)[1]
    given = paddle.to_tensor(x, stop_gradient=False)
    fed = given * 1.0
    y = norm(fed.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2]) if format == "NHWC" else norm(fed)
    (y.transpose([3, 1, 0, 2]) * paddle.to_tensor(gradient).transpose([3, 1, 0, 2])).sum().backward()
    close(array(given.grad), expected, 1e-10)


def test_a_step_of_the_optimizer_before_the_backward_is_not_taken_for_the_forwards_weights() -> None:
    """With the passes; Paddle's own operations may refuse it."""
    shape = (4, 3, 5, 9)
    norm, x, gradient = layer(shape), random(shape, 1), random(shape, 2)
    expected = reference(norm, x, gradient, True)
    given = paddle.to_tensor(x, stop_gradient=False)
    y = norm(given)
    for name in NAMES:
        getattr(norm, name).set_value(np.full(3, 7.0))
    norm.bias.stop_gradient = True
    paddle.autograd.backward([y], [paddle.to_tensor(gradient)])
    close(array(given.grad), expected[1], 1e-10)
    close(array(norm.weight_readjust.grad), expected[4], 1e-10)
