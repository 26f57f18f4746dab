"""IEBN on a device: an array type that stands in for CuPy's, and a module with few functions."""

from types import SimpleNamespace
from typing import Any

import chainer
import numpy as np
import pytest
from chainer import Variable, backend

from mixlayers_chainer._iebn import choose, measure, passes
from mixlayers_chainer._iebn.layer import IEBN


def random(shape: tuple[int, ...] = (8, 3, 5, 6), seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 2 + 0.5).astype(np.float32)


class DeviceArray(np.ndarray):
    """Stands in for CuPy's: refuses to meet an array of the host."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **rest: Any) -> Any:
        for each in (*inputs, *out):
            if isinstance(each, np.ndarray) and each.ndim and not isinstance(each, DeviceArray):
                raise TypeError(f"{ufunc.__name__} was given an array of the host.")
        raw = [np.asarray(each) if isinstance(each, DeviceArray) else each for each in inputs]
        if out:
            rest["out"] = tuple(np.asarray(each) for each in out)
        result = getattr(ufunc, method)(*raw, **rest)
        return out[0] if out else np.asarray(result).view(DeviceArray)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in (np.empty_like, np.ones_like, np.zeros_like):
            raise TypeError(f"numpy.{function.__name__} was called with an array of the device.")
        return super().__array_function__(function, types, args, kwargs)


CUPY = {"abs", "add", "exp", "minimum", "multiply", "negative", "sqrt", "subtract"}
"""The functions of NumPy's that the stand-in for CuPy has, as ufuncs."""


@pytest.mark.parametrize("training", [True, False], ids=["train", "test"])
@pytest.mark.parametrize("axis", [(0, 2, 3), (0, 1, 2)], ids=["planes", "rows"])
def test_on_a_device_no_array_of_the_host_is_met(
    axis: tuple[int, ...], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(
        **{name: getattr(np, name) for name in CUPY},
        empty_like=np.empty_like,
        ascontiguousarray=lambda x: x if x.flags.c_contiguous else x.copy(order="C"),
    )
    stand_in = SimpleNamespace(get_array_module=lambda x: module if isinstance(x, DeviceArray) else np)
    for file in (choose, measure, passes):
        monkeypatch.setattr(file, "backend", stand_in)

    def run(send: Any) -> list[np.ndarray]:
        norm = IEBN(size := 3 if axis[-1] == 3 else 6, axis=axis)
        norm.avg_mean, norm.avg_var = send(norm.avg_mean), send(np.full(size, 2.0, np.float32))
        for seed, (_, parameter) in enumerate(sorted(norm.namedparams())):
            parameter.array = send(random((size,), seed))
        norm.cleargrads()
        x = Variable(send(random()))
        with chainer.using_config("train", training):
            y = norm(x)
        y.grad = send(random(seed=1))
        y.backward()
        found = [y.array, x.grad, norm.avg_mean, norm.avg_var, *(each.grad for _, each in norm.namedparams())]
        assert {type(each) for each in found} == {type(send(random()))}
        return [np.asarray(each) for each in found]

    for one, other in zip(run(lambda x: x.view(DeviceArray)), run(lambda x: x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match="array of the host"):
        random().view(DeviceArray) + random()
    assert backend.get_array_module(random()) is np
