"""Layers with random numbers, and what the reference says of them."""

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers_native._library import library
from mixlayers_paddle._iebn.layer import IEBN1D, IEBN2D, IEBN3D
from tests.support.reference_iebn import iebn, iebn_backward
from tests.support.rounding import limits

LAYERS = {2: IEBN1D, 3: IEBN1D, 4: IEBN2D, 5: IEBN3D}
NAMES = ("weight", "bias", "weight_readjust", "bias_readjust")
STATISTICS = ("_mean", "_variance")


@pytest.fixture(params=["compiled passes", "Paddle's operations"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each test with the library and without."""
    if request.param == "compiled passes":
        assert library() is not None, "the passes are not built: make setup, on a machine with a compiler"
        return True
    monkeypatch.setattr("mixlayers_paddle._iebn.native.library", lambda: None)
    return False


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


def allowed(norm: nn.Layer, x: np.ndarray, gradient: np.ndarray, batch: bool, own: bool) -> list[np.ndarray]:
    """How far float32 may be from the `reference`; own: by kernels of ours, not by Paddle's sums."""
    vectors = [array(getattr(norm, name)) for name in NAMES]
    kept = {} if batch else {"mean": array(norm._mean), "var": array(norm._variance)}
    return limits(gradient, x, *vectors, eps=norm._epsilon, serial=not own, **kept)


def close(one: np.ndarray, other: np.ndarray, tolerance: float) -> None:
    """Alike, measured by the largest value there is."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= tolerance * max(1e-3, np.abs(other).max())
