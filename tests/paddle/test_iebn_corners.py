"""IEBN where Paddle's users reported trouble with BatchNorm: saved programs, the older layer, global initialisers."""

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers.paddle import IEBN2D, RBN2D, convert_iebn, revert_iebn
from mixlayers_paddle._iebn.act import IEBNAct


def images(shape: tuple[int, ...], seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def random(norm: Any) -> Any:
    for seed, name in enumerate(("weight", "bias", "weight_readjust", "bias_readjust")):
        getattr(norm, name).set_value(images((6,), seed))
    return norm


@pytest.mark.parametrize("fixed", [None, True, False])
def test_a_program_saved_in_training_mode_infers(fixed: bool | None, tmp_path: Path) -> None:
    """With the running statistics, as a saved BatchNorm2D does; unless it never asks the mode."""
    norm = random(IEBN2D(6, use_global_stats=fixed))
    norm.train()
    path = str(tmp_path / "norm")
    paddle.jit.save(norm, path, input_spec=[paddle.static.InputSpec([None, 6, 5, 7], "float32")])
    norm.eval()
    x = images((4, 6, 5, 7))
    np.testing.assert_allclose(paddle.jit.load(path)(x).numpy(), norm(x).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("act", [None, "relu"])
@pytest.mark.parametrize("options", [{}, {"use_global_stats": True}, {"trainable_statistics": True}], ids=str)
def test_the_older_layer_converts_and_comes_back(act: str | None, options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2D(6, 6, 1), nn.BatchNorm(6, act=act, momentum=0.8, **options))
    norm, x = model[1], images((4, 6, 5, 7))
    norm._mean.set_value(paddle.ones([6]))
    for training in (True, False):
        model.train() if training else model.eval()
        before, kept = model(x).numpy(), norm._mean.numpy()
        norm._mean.set_value(paddle.ones([6]))
        converted = convert_iebn(model, preserve_output=True)
        assert type(converted[1]) is IEBNAct and converted[1].weight is norm.weight
        np.testing.assert_allclose(converted(x).numpy(), before, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm._mean.numpy(), kept, rtol=1e-5)
        revert_iebn(model, preserve_output=True)
        back = model[1]
        assert type(back) is nn.BatchNorm and back.weight is norm.weight
        settings = ("_act", "_momentum", "_epsilon", "_use_global_stats", "_trainable_statistics", "training")
        assert [getattr(back, name) for name in settings] == [getattr(norm, name) for name in settings]
        norm = back
        norm._mean.set_value(paddle.ones([6]))


def test_global_initialisers_leave_the_attention_as_it_starts() -> None:
    paddle.nn.initializer.set_global_initializer(nn.initializer.Constant(0.7), nn.initializer.Constant(0.7))
    try:
        norm, plain = IEBN2D(3), nn.BatchNorm2D(3)
    finally:
        paddle.nn.initializer.set_global_initializer(None)
    assert norm.weight_readjust.numpy().tolist() == [0.0] * 3
    assert norm.bias_readjust.numpy().tolist() == [-1.0] * 3
    assert norm.weight.numpy().tolist() == plain.weight.numpy().tolist()


def test_a_static_program_holds_no_expansion_to_a_batch_that_is_not_known() -> None:
    """Which ONNX cannot say; `paddle.onnx.export` needs a package that no index has for this Paddle."""
    norm = random(IEBN2D(6))
    norm.eval()
    traced = paddle.jit.to_static(
        norm, full_graph=True, input_spec=[paddle.static.InputSpec([None, 6, 5, 7], "float32")]
    )
    assert "expand" not in str(traced.forward.main_program)


@pytest.mark.parametrize("kind", [IEBN2D, RBN2D])
@pytest.mark.parametrize("format", ["NCHW", "NHWC"])
def test_channels_that_are_not_the_norms_are_refused(kind: Any, format: str) -> None:
    """The passes would read past the ends of its vectors, and write there."""
    for width in (2, 16):
        shape = [2, 4, 4, width] if format == "NHWC" else [2, width, 4, 4]
        with pytest.raises(ValueError, match=rf"the norm has 3 channels, got {width} in an input \(2, "):
            kind(3, data_format=format, weight_attr=False, bias_attr=False)(paddle.ones(shape))
