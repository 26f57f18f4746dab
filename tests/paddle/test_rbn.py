"""RBN's layers in PaddlePaddle: formats, graphs, precision; tests/shared/test_rbn.py has the numbers."""

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers.paddle import (
    IEBN2D,
    RBN1D,
    RBN2D,
    RBN3D,
    convert_rbn,
    iebn_parameters,
    revert_rbn,
    to_official_state_dict,
)
from mixlayers_paddle._iebn.act import RBNAct
from tests.paddle.iebn_parts import close, random
from tests.paddle.iebn_parts import compiled as compiled
from tests.support.reference_rbn import NAMES, rbn


def learned(kind=RBN2D, channels=3, dtype="float64", **options):
    """A layer whose parameters are not the initial ones."""
    norm = kind(channels, **options)
    norm.to(dtype=dtype)
    for seed, name in enumerate(NAMES):
        if getattr(norm, name) is not None:
            getattr(norm, name).set_value(random((channels,), seed).astype(dtype))
    return norm


def own(norm):
    missing = {"weight": np.ones(norm._num_features), "bias": np.zeros(norm._num_features)}
    given = ((name, getattr(norm, name)) for name in NAMES)
    return [missing[name] if each is None else each.numpy().astype("float64") for name, each in given]


def test_second_derivatives(compiled: bool) -> None:
    """A gradient penalty, by x and by every parameter: against differences of first derivatives."""
    for training in (True, False):
        norm, x, step = learned(), random((3, 3, 2, 4)), random((3, 3, 2, 4), 5)
        norm.training = training
        parameters = [getattr(norm, name) for name in NAMES]
        start = [parameter.numpy() for parameter in parameters]

        def slopes(t: float, graph: bool, norm=norm, x=x, step=step, parameters=parameters, start=start):
            given = paddle.to_tensor(x + t * step, stop_gradient=False)
            for parameter, value in zip(parameters, start, strict=True):
                parameter.set_value(value * (1 + t))
            inputs = [given, *parameters]
            return inputs, paddle.grad([(norm(given) ** 3).sum()], inputs, create_graph=graph)

        inputs, first = slopes(0.0, True)
        again = [random(each.shape, 7 + i) for i, each in enumerate(first)]
        total = sum((each * paddle.to_tensor(other)).sum() for each, other in zip(first, again, strict=True))
        second = paddle.grad([total], inputs)
        found = sum(
            float((each.numpy() * way).sum()) for each, way in zip(second, (step, *start), strict=True)
        )
        tiny = 1e-6

        def along(t: float, again=again, slopes=slopes):
            return sum(float((a.numpy() * b).sum()) for a, b in zip(slopes(t, False)[1], again, strict=True))

        assert found == pytest.approx((along(tiny) - along(-tiny)) / (2 * tiny), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape", "format"),
    [(RBN1D, (4, 5, 3), "NLC"), (RBN2D, (4, 5, 2, 3), "NHWC"), (RBN3D, (4, 2, 5, 2, 3), "NDHWC")],
    ids=str,
)
def test_channels_last(compiled: bool, kind, shape, format) -> None:
    norm, x = learned(kind, data_format=format), random(shape)
    close(norm(paddle.to_tensor(x)).numpy(), np.moveaxis(rbn(np.moveaxis(x, -1, 1), *own(norm)), 1, -1), 1e-7)


@pytest.mark.parametrize(
    "options", [{"weight_attr": False}, {"bias_attr": False}, {"use_global_stats": True}], ids=str
)
def test_without_what_batchnorm_may_lack(compiled: bool, options) -> None:
    norm, x = learned(**options), random((4, 3, 5, 2))
    kept = {"mean": np.zeros(3), "var": np.ones(3)} if "use_global_stats" in options else {}
    close(norm(paddle.to_tensor(x)).numpy(), rbn(x, *own(norm), **kept), 1e-7)


@pytest.mark.parametrize("frozen", [("weight",), ("bias", "weight_recenter"), NAMES], ids=str)
def test_frozen_parameters(compiled: bool, frozen) -> None:
    x = random((4, 3, 5, 9))

    def gradients(frozen):
        norm, given = learned(), paddle.to_tensor(x, stop_gradient=False)
        for name in frozen:
            getattr(norm, name).stop_gradient = True
        (norm(given) ** 3).sum().backward()
        return {"x": given.grad, **{name: getattr(norm, name).grad for name in NAMES}}

    whole = gradients(())
    for name, found in gradients(frozen).items():
        if name in frozen:
            assert found is None
        else:
            close(found.numpy(), whole[name].numpy(), 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_with_means_of_float32(dtype: str) -> None:
    norm, x = learned(dtype="float32"), paddle.to_tensor(random((6, 3, 8, 8)) + 8).astype(dtype)
    y = norm(x)
    wanted = rbn(x.astype("float64").numpy(), *own(norm))
    assert y.dtype == x.dtype
    unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    assert np.abs(y.astype("float64").numpy() - wanted).max() <= unit * np.abs(wanted).max()


def test_a_static_program_is_the_same_function() -> None:
    norm, x = learned(dtype="float32"), paddle.to_tensor(random((4, 3, 5, 2)).astype("float32"))
    norm.eval()
    static = paddle.jit.to_static(norm, full_graph=True)
    close(static(x).numpy(), rbn(x.numpy(), *own(norm), mean=np.zeros(3), var=np.ones(3)), 1e-5)


def test_what_is_frozen_or_followed_by_an_activation_stays_so() -> None:
    model = nn.Sequential(nn.BatchNorm1D(3), nn.BatchNorm(3, act="relu"), nn.BatchNorm2D(3))
    for parameter in model[2].parameters():
        parameter.stop_gradient = True
    convert_rbn(model)
    assert [type(norm) for norm in model] == [RBN1D, RBNAct, RBN2D]
    assert float(model[1](paddle.to_tensor(random((4, 3, 5, 2)).astype("float32"))).min()) == 0.0
    assert all(getattr(model[2], name).stop_gradient for name in NAMES)
    _, added = iebn_parameters(model, weight_decay=0.5)
    assert len(added["params"]) == 3 * 3 and added["weight_decay"] == 0.5
    revert_rbn(model)
    assert [type(norm) for norm in model] == [nn.BatchNorm1D, nn.BatchNorm, nn.BatchNorm2D]


def test_who_knew_the_model_before_is_named_where_the_caller_stands() -> None:
    model = nn.Sequential(nn.BatchNorm2D(3))
    optimizer = paddle.optimizer.SGD(parameters=model.parameters())
    with pytest.warns(UserWarning, match="will not train the 3 new parameters") as caught:
        convert_rbn(model)
    assert caught[0].filename == __file__ and optimizer is not None


def test_the_official_shapes_are_iebns_alone() -> None:
    state = to_official_state_dict(nn.Sequential(IEBN2D(3), RBN2D(3)))
    assert [len(state[f"{i}.weight"].shape) for i in range(2)] == [4, 1]
