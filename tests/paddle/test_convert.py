"""convert_iebn and its way back: nothing is lost, nothing is silently left untrained."""

import copy
import logging
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.vision.models import resnet18

from mixlayers_paddle._iebn.convert import convert_iebn, iebn_parameters, revert_iebn
from mixlayers_paddle._iebn.layer import (
    IEBN1D,
    IEBN2D,
    IEBN3D,
    from_official_state_dict,
    to_official_state_dict,
)
from mixlayers_paddle._iebn.sync import SyncIEBN

pytestmark = [
    pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning"),  # Paddle's BatchNorm
    pytest.mark.filterwarnings("ignore:Skip loading for:UserWarning"),  # how Paddle reports missing keys
]


def net(seed: int = 0, shared: bool = False) -> Any:
    paddle.seed(seed)
    norms = [nn.BatchNorm2D(6) for _ in range(3)]
    norms[2] = norms[1] if shared else norms[2]
    convolutions = [nn.Conv2D(channels, 6, 3, padding=1) for channels in (3, 6, 6)]
    layers = [each for pair in zip(convolutions, norms, strict=True) for each in pair]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 64, 4))


def batch() -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype("float32"))


def trained(**options: Any) -> Any:
    """A network whose statistics and weights are not the initial ones."""
    model, rng = net(**options), np.random.default_rng(3)
    for norm in (model[1], model[3], model[5]):
        norm.weight.set_value(rng.uniform(0.5, 2.0, 6).astype("float32"))
        norm.bias.set_value(rng.normal(size=6).astype("float32"))
    model(batch())
    return model


def close(one: paddle.Tensor, other: paddle.Tensor) -> None:
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-4)


def test_a_resnet18_is_article_004s_to_the_parameter(caplog: Any, capsys: Any) -> None:
    model = resnet18(num_classes=10)
    with caplog.at_level(logging.INFO, "mixlayers"):
        assert convert_iebn(model) is model
    assert "replaced 20 norms by IEBN, +9600 parameters: bn1, layer1.0.bn1" in caplog.text
    total = paddle.summary(model, (1, 3, 128, 128))["total_params"]
    assert total == 11_200_842
    assert "11,200,842" in capsys.readouterr().out


def test_conversion_keeps_parameters_statistics_modes_and_hooks() -> None:
    model = trained()
    model[3].eval()
    for parameter in (model[5].weight, model[5].bias):
        parameter.stop_gradient = True
    norm, calls = model[1], []
    before = dict(norm.named_parameters())
    norm.register_forward_post_hook(lambda *call: calls.append(1))
    convert_iebn(model)
    new = model[1]
    assert all(getattr(new, name) is tensor for name, tensor in before.items()) and len(before) == 4
    assert (new._epsilon, new._momentum, new._num_features) == (norm._epsilon, norm._momentum, 6)
    assert [model[place].training for place in (1, 3)] == [True, False]
    assert model[5].weight_readjust.stop_gradient and not model[3].weight_readjust.stop_gradient
    model(batch())
    assert calls == [1]
    revert_iebn(model)
    assert type(model[1]) is nn.BatchNorm2D and model[1].weight is before["weight"]
    assert set(model.state_dict()) == set(net().state_dict())


def test_skip_and_shared_layers() -> None:
    model = convert_iebn(trained(shared=True), skip="1")
    assert type(model[1]) is nn.BatchNorm2D
    assert model[3] is model[5] and isinstance(model[3], IEBN2D)
    assert isinstance(convert_iebn(nn.BatchNorm1D(3)), IEBN1D)
    assert isinstance(convert_iebn(nn.Sequential(nn.BatchNorm3D(3)))[0], IEBN3D)
    assert isinstance(convert_iebn(nn.SyncBatchNorm(3)), SyncIEBN)
    assert type(revert_iebn(IEBN1D(3))) is nn.BatchNorm1D
    assert type(revert_iebn(SyncIEBN(3))) is nn.SyncBatchNorm


def test_norms_that_share_a_weight_are_scaled_once() -> None:
    plain, x = trained(), batch()
    plain[3].weight = plain[1].weight
    model = convert_iebn(copy.deepcopy(plain), preserve_output=True)
    assert model[3].weight is model[1].weight
    for each in (model, plain):
        each.eval()
    close(model(x), plain(x))
    close(revert_iebn(model, preserve_output=True)(x), plain(x))


def test_formats_and_missing_affine_parameters_survive() -> None:
    norm = nn.BatchNorm1D(3, 0.8, 1e-3, weight_attr=False, data_format="NLC", use_global_stats=True)
    norm(paddle.rand([2, 4, 3]))  # Paddle calls the format NHWC from now on
    new = convert_iebn(norm)
    assert new.weight is None and new.bias is norm.bias and new._use_global_stats is True
    assert new(paddle.rand([2, 4, 3])).shape == [2, 4, 3]
    back = revert_iebn(new)
    assert back.weight is None and back._data_format == "NHWC" and back._momentum == 0.8


def test_without_weights_nothing_holds_what_the_attention_costs() -> None:
    with pytest.raises(ValueError, match="weight_attr=False"):
        convert_iebn(nn.BatchNorm2D(3, weight_attr=False), preserve_output=True)


def test_groups_hold_every_parameter_once_and_spare_the_attention() -> None:
    model = convert_iebn(trained())
    others, attention = iebn_parameters(model)
    assert len(others["params"]) + len(attention["params"]) == len(model.parameters())
    assert len(attention["params"]) == 6
    optimizer = paddle.optimizer.Momentum(0.1, parameters=iebn_parameters(model), weight_decay=0.1)
    model(batch()).sum().backward()
    model.clear_gradients(set_to_zero=True)  # only the decay is left
    weight, bias = model[1].weight.numpy(), model[1].bias_readjust.numpy()
    optimizer.step()
    assert np.array_equal(model[1].bias_readjust.numpy(), bias)
    np.testing.assert_allclose(model[1].weight.numpy(), weight * 0.99, rtol=1e-5)


def test_paddles_sync_conversion_leaves_the_attention_and_ours_keeps_it() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(convert_iebn(trained(shared=True), skip="1"))
    assert isinstance(model[1], nn.SyncBatchNorm) and isinstance(model[3], IEBN2D)
    weight = model[3].weight_readjust
    assert SyncIEBN.convert_sync_iebn(model) is model
    assert isinstance(model[3], SyncIEBN) and model[3] is model[5] and model[3].weight_readjust is weight


def test_checkpoints_of_batchnorm_the_article_and_ours_load() -> None:
    plain, model = trained(), convert_iebn(net())
    missing, unexpected = model.set_state_dict(plain.state_dict())
    assert sorted(missing) == sorted(
        f"{place}.{name}_readjust" for place in (1, 3, 5) for name in ("bias", "weight")
    )
    assert unexpected == []
    assert np.array_equal(model[1].weight.numpy(), plain[1].weight.numpy())
    assert (model[1].bias_readjust == -1.0).all()
    model[1].weight_readjust.set_value(np.random.default_rng(1).normal(size=6).astype("float32"))
    official = to_official_state_dict(model)
    assert official["1.weight_readjust"].shape == [1, 6, 1, 1] and official["0.weight"].shape == [6, 3, 3, 3]
    model.eval()
    for state in (
        from_official_state_dict(official),
        from_official_state_dict(model.state_dict()),
        model.state_dict(),
    ):
        other = convert_iebn(net(seed=5))
        assert other.set_state_dict(state) == ([], [])
        other.eval()
        assert np.array_equal(other(batch()).numpy(), model(batch()).numpy())
