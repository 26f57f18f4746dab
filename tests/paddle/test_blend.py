"""The kernel: precision, derivatives, and what it leaves alone."""

import numpy as np
import paddle
import pytest

from mixlayers import Mixup
from mixlayers._core.plan.plan import Blend
from mixlayers.paddle import mix
from mixlayers_paddle._blend import Partners, blend
from tests.paddle.paddle_networks import equal
from tests.support import reference
from tests.support.methods import METHODS


def how_for(method, shape, step=1):
    plan = method.plan(step=step, batch_size=shape[0], places=("hidden",))
    return plan.blend(shape), Partners(plan.perm)


def normal(shape, dtype="float64"):
    return paddle.to_tensor(
        np.random.default_rng(0).standard_normal(shape).astype(dtype), stop_gradient=False
    )


@pytest.mark.parametrize("lam", [0.0, 1e-40, 1e-8, 1e-3, 0.5, 1 - 1e-12, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_lam(lam, dtype):
    x = normal((6, 5), dtype) * 1e6
    perm = np.array([1, 2, 0, 5, 4, 3])
    mixed = blend(x, Blend(perm, lam, None, None, 1 - lam), Partners(perm))
    expected = reference.mix(x.astype("float64").numpy(), perm, lam)
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-6 if dtype == "float32" else 1e-12, atol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_complex_features(method):
    real = normal((4, 2, 6, 4))
    x = paddle.complex(real, real * 2)
    how, partners = how_for(method, real.shape)
    mixed = blend(x, how, partners)
    assert mixed.dtype == paddle.complex128
    np.testing.assert_allclose(mixed.real().numpy(), blend(real, how, partners).numpy(), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_follows_may_work_in_place(method):
    x = normal((4, 2, 6, 4))
    how, partners = how_for(method, x.shape)
    functional = paddle.nn.functional
    (out_of_place,) = paddle.grad(functional.relu(blend(x, how, partners)).sum(), x)
    (in_place,) = paddle.grad(functional.relu_(blend(x, how, partners)).sum(), x)
    assert equal(out_of_place, in_place)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_callers_batch_is_not_written_to(method, stop_gradient):
    x, y = normal((4, 2, 6, 4)), paddle.arange(4)
    x.stop_gradient = stop_gradient
    before, versions = x.detach().clone(), (x.inplace_version, y.inplace_version)
    mixed, _ = mix(x, y, method, step=1)
    assert mixed.stop_gradient == stop_gradient
    mixed.detach().add_(paddle.ones([1], "float64"))
    assert equal(x, before) and (x.inplace_version, y.inplace_version) == versions


def test_a_gradient_is_not_written_to():
    x, upstream = normal((4, 6)), normal((4, 6)).detach()
    how, partners = how_for(Mixup(), x.shape)
    kept = upstream.clone()
    blend(x, how, partners).backward(upstream)
    assert equal(upstream, kept)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_retained_graph_runs_again(method):
    x, gradient = normal((4, 2, 6, 4)), normal((4, 2, 6, 4)).detach()
    how, partners = how_for(method, x.shape)
    y = blend(x, how, partners)
    y.backward(gradient, retain_graph=True)
    once = x.grad.clone()
    y.backward(gradient)
    assert equal(x.grad, 2 * once)
