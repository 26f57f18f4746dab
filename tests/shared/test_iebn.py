"""IEBN in every framework against the NumPy reference: the same layer, the same numbers."""

import numpy as np
import pytest

from tests.support import reference_iebn as reference
from tests.support.rounding import limits

EPS = {"torch": 1e-5, "paddle": 1e-5, "chainer": 2e-5}  # each framework's default
SHAPES = [(4, 3, 5, 6), (32, 24, 20, 20)]  # the second is large enough for each framework's own kernels
NAMES = ("weight", "bias", "weight_readjust", "bias_readjust")
CHAINERS = {"gamma": "weight", "beta": "bias", "avg_mean": "mean", "avg_var": "var"}
OTHERS = {"running_mean": "mean", "running_var": "var", "_mean": "mean", "_variance": "var"}


pytestmark = pytest.mark.parametrize("fw", EPS, indirect=True)  # tests/chainer has the stand-in for a GPU


def meaning(name):
    """A parameter's name in any framework as the reference has it."""
    last = name.replace("/", ".").split(".")[-1]
    return {**CHAINERS, **OTHERS}.get(last, last)


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    rng, shape = np.random.default_rng(0), request.param
    vectors = {name: rng.normal(size=shape[1]) for name in NAMES}
    vectors |= {"mean": rng.normal(size=shape[1]), "var": 0.5 + rng.random(shape[1])}
    return rng.normal(0.7, 1.5, shape), rng.normal(size=shape), vectors


def made(fw, channels, vectors, dtype):
    layer = fw.cast(fw.IEBN(channels), dtype)
    state = fw.state(layer)
    fw.load(layer, {name: vectors.get(meaning(name), value) for name, value in state.items()})
    return layer


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("dtype", "value", "slope"), [("float64", 1e-12, 1e-10), ("float32", None, None)])
def test_equals_the_reference(fw, case, dtype, value, slope, training):
    x, upstream, vectors = case
    vectors = {name: vector.astype(dtype) for name, vector in vectors.items()}
    layer = made(fw, x.shape[1], vectors, dtype)
    own = [vectors[name].astype(np.float64) for name in NAMES]
    kept = {} if training else {name: vectors[name].astype(np.float64) for name in ("mean", "var")}
    tensor = fw.tensor(x, dtype)
    x, upstream = fw.numpy(tensor), fw.numpy(fw.tensor(upstream, dtype))
    expected = reference.iebn(x, *own, eps=EPS[fw.name], **kept)
    slopes = reference.iebn_backward(upstream, x, *own, eps=EPS[fw.name], **kept)

    serial = fw.name == "paddle" and (not training or x.size < 2**17)  # its own sums, not our kernels
    bounds = limits(upstream, x, *own, eps=EPS[fw.name], serial=serial, **kept)
    atmost = dict(zip(("y", "x", *NAMES), bounds, strict=True))

    def check(name, found, wanted):
        tolerance = value if name == "y" else slope
        limit = atmost[name] if tolerance is None else tolerance * np.abs(wanted).max()
        assert (np.abs(found - wanted) <= limit).all(), name

    def run():
        check("y", fw.numpy(layer(tensor)), expected)
        check("x", fw.gradient(layer, tensor, upstream), slopes.x)
        for name, gradient in fw.gradients(layer).items():
            check(meaning(name), gradient, getattr(slopes, meaning(name)))

    if training:
        run()
    else:
        with fw.evaluating(layer):
            run()
