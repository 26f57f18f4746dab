"""IEBN as a layer: arguments, errors, copies, files, dtypes, static graphs."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers_paddle._iebn.layer import IEBN, IEBN1D, IEBN2D, IEBN3D
from mixlayers_paddle._iebn.sync import SyncIEBN


def images(shape: tuple[int, ...] = (8, 6, 9, 9), seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def random(norm: Any) -> Any:
    for seed, name in enumerate(("weight", "bias", "weight_readjust", "bias_readjust")):
        getattr(norm, name).set_value(images((norm._num_features,), seed))
    return norm


@pytest.mark.parametrize("kind", [IEBN1D, IEBN2D, IEBN3D, SyncIEBN])
@pytest.mark.parametrize(
    "options", [{}, {"weight_attr": False}, {"bias_attr": False}, {"name": "host"}], ids=str
)
def test_has_the_arguments_and_tensors_of_batchnorm(kind: Any, options: dict[str, Any]) -> None:
    plain = kind.host(
        5, 0.8, 1e-3, **{key: value and f"{value}_{kind.__name__}" for key, value in options.items()}
    )
    if "name" in options:  # Paddle wants names to be unique
        options = {"name": f"own_{kind.__name__}"}
    norm = kind(5, 0.8, 1e-3, **options)
    own = norm.state_dict()
    for name, start in (("weight_readjust", 0.0), ("bias_readjust", -1.0)):
        assert np.array_equal(own.pop(name).numpy(), np.full(5, start))
    if kind is not SyncIEBN:  # Paddle's keeps a fixed weight and bias where it has none
        assert [*own] == [*plain.state_dict()]
        assert [p.stop_gradient for p in own.values()] == [
            p.stop_gradient for p in plain.state_dict().values()
        ]
    for name, tensor in own.items():
        assert np.array_equal(tensor.numpy(), plain.state_dict()[name].numpy())
    if "name" in options:
        assert norm._mean.name == f"own_{kind.__name__}_mean"
    else:
        assert repr(norm) == repr(plain).replace(type(plain).__name__, kind.__name__)


def test_attrs_are_used() -> None:
    start = paddle.ParamAttr("gamma", nn.initializer.Constant(0.3), learning_rate=0.5)
    norm = IEBN2D(3, weight_attr=start, bias_attr=nn.initializer.Constant(0.2))
    assert norm.weight.name == "gamma" and norm.weight.optimize_attr["learning_rate"] == 0.5
    assert np.allclose(norm.weight.numpy(), 0.3) and np.allclose(norm.bias.numpy(), 0.2)
    assert IEBN is IEBN2D


@pytest.mark.parametrize("kind", [IEBN1D, IEBN2D, IEBN3D])
@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5])
def test_takes_and_refuses_what_batchnorm_does(kind: Any, axes: int) -> None:
    def outcome(norm: Any) -> str:
        norm.eval()
        try:
            return str(norm(paddle.ones([3] * axes)).shape)
        except ValueError as error:
            return str(error)

    assert outcome(kind(3)).startswith(outcome(kind.host(3)))


def test_wrong_format_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="IEBN2D takes data_format NCHW or NHWC, got 'NLC'"):
        IEBN2D(3, data_format="NLC")


def test_copies_and_files(tmp_path: Path) -> None:
    norm, x = random(IEBN2D(6)), images()
    norm(x)
    path = str(tmp_path / "norm.pdparams")
    paddle.save(norm.state_dict(), path)
    loaded = IEBN2D(6)
    assert loaded.set_state_dict(paddle.load(path)) == ([], [])
    norm.eval()
    for each in (copy.deepcopy(norm), loaded):
        each.eval()
        assert np.array_equal(each(x).numpy(), norm(x).numpy())
    twin = copy.deepcopy(norm)
    twin.weight_readjust.set_value(images((6,), 9))
    assert not np.array_equal(twin(x).numpy(), norm(x).numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_input_with_float32_parameters(dtype: str) -> None:
    norm, x = random(IEBN2D(6)), images()
    x.stop_gradient = False
    low = x.astype(dtype)
    y = norm(low)
    assert y.dtype == low.dtype
    np.testing.assert_allclose(y.astype("float32").numpy(), norm(x).numpy(), rtol=0.05, atol=0.1)
    y.astype("float32").sum().backward()
    assert x.grad is not None and norm.weight_readjust.grad.dtype == paddle.float32


def test_amp_keeps_the_parameters_as_they_are() -> None:
    from paddle.amp.auto_cast import need_keep_fp32

    assert need_keep_fp32(IEBN2D(3), "float16") and need_keep_fp32(nn.BatchNorm2D(3), "float16")


def test_syncbatchnorm_conversion_leaves_the_attention() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(IEBN2D(3), nn.Sequential(IEBN1D(3))))
    assert [type(model[0]), type(model[1][0])] == [IEBN2D, IEBN1D]


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface")  # Paddle's own tracing
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_to_static_gives_the_same_numbers(training: bool) -> None:
    same_when_traced(training, full_graph=True)


def test_symbolic_tracing_gives_the_same_numbers() -> None:
    """In a process of its own: there Paddle 3.3 crashes where a warning becomes an error."""
    code = (
        "import tests.paddle.test_iebn_layer as test\n"
        "for training in (True, False): test.same_when_traced(training, full_graph=False)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def same_when_traced(training: bool, full_graph: bool) -> None:
    eager, static = random(IEBN2D(6)), random(IEBN2D(6))
    for norm in (eager, static):
        norm.train() if training else norm.eval()
    traced = paddle.jit.to_static(static, full_graph=full_graph, backend=None)
    found = []
    for norm, run in ((eager, eager), (static, traced)):
        x = images()
        x.stop_gradient = False
        y = run(x)
        found.append([y, norm._mean, norm._variance])
        if training:  # Paddle's static graphs have no backward in eval mode
            (y * images(seed=1)).sum().backward()
            found[-1] += [x.grad, *(p.grad for p in norm.parameters() if not p.stop_gradient)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [IEBN1D, IEBN2D])
def test_jit_save_takes_any_batch(kind: Any, tmp_path: Path) -> None:
    space = [9, 9] if kind is IEBN2D else [9]
    norm = random(kind(6))
    norm.eval()
    path = str(tmp_path / "norm")
    paddle.jit.save(norm, path, input_spec=[paddle.static.InputSpec([None, 6, *space], "float32")])
    loaded = paddle.jit.load(path)
    for batch in (1, 5):
        x = images((batch, 6, *space))
        np.testing.assert_allclose(loaded(x).numpy(), norm(x).numpy(), rtol=1e-5, atol=1e-5)
