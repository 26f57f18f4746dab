"""The blend itself: any strides, first and second derivatives, and what it leaves alone."""

import numpy as np
import pytest

from tests.support.methods import METHODS

VIEWS = {
    "channels": lambda x: x[:, ::2],
    "rows and columns": lambda x: x[:, :, ::2, 1::2],
    "samples": lambda x: x[::2],
}


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def mixed(fw, x, method):
    return fw.face.mix(x, fw.tensor(np.arange(x.shape[0])), method, step=1)[0]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_any_strides(fw, method, view):
    x = normal((8, 4, 6, 6))
    whole = fw.tensor(x, "float64")
    assert fw.equal(mixed(fw, view(whole), method), mixed(fw, fw.tensor(view(x).copy(), "float64"), method))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_first_and_second_derivatives_are_those_of_mixing_by_hand(fw, method):
    shape = (4, 2, 6, 4)
    how = method.plan(step=1, batch_size=4).blend(shape)
    lam = how.lam if isinstance(how.lam, float) else fw.tensor(how.lam.reshape(-1, 1, 1, 1), "float64")
    found = []
    for f in (lambda x: mixed(fw, x, method), lambda x: fw.by_hand(x, how.perm, lam, how.mask)):
        x = fw.wanting(fw.tensor(normal(shape), "float64"))
        value = f(x)
        (first,) = fw.grad(value**3, [x], create_graph=True)
        (second,) = fw.grad(first**2, [x])
        found.append((value, first, second))
    for ours, theirs in zip(*found, strict=True):
        fw.close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_neither_the_batch_nor_the_gradient_is_written_to(fw, method):
    array, upstream = normal((4, 2, 6, 4)), normal((4, 2, 6, 4), seed=1)
    x, kept = fw.tensor(array, "float64"), upstream.copy()
    once = fw.gradient(lambda x: mixed(fw, x, method), x, upstream)
    again = fw.gradient(lambda x: mixed(fw, x, method), x, upstream)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(fw.numpy(x), array)
    np.testing.assert_array_equal(upstream, kept)
