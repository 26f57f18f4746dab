"""Who knew a model before its norms were converted, norms of other classes, and statistics for averaged weights."""

import copy
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers.paddle import IEBN2D, RBN2D, SyncIEBN, convert_iebn, update_bn


def net() -> nn.Layer:
    return nn.Sequential(nn.Conv2D(3, 3, 3, padding=1), nn.BatchNorm2D(3), nn.ReLU())


def images(seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(
        np.random.default_rng(seed).normal(size=(4, 3, 5, 5)).astype("float32") * (seed + 1.0)
    )


class ExponentialMovingAverage:
    """As PaddleClas's: no layer, and a copy of the model."""

    def __init__(self, model: nn.Layer) -> None:
        self.module = copy.deepcopy(model)


class Loud(nn.BatchNorm2D):
    """Somebody's own, which normalises and no more."""


def test_an_average_of_the_weights_from_before_the_conversion_is_named() -> None:
    model = net()
    average = ExponentialMovingAverage(model)
    with pytest.warns(
        UserWarning, match=r"this ExponentialMovingAverage holds a copy .* convert first"
    ) as caught:
        convert_iebn(model)
    assert [each.filename for each in caught] == [__file__]
    assert isinstance(average.module[1], nn.BatchNorm2D)


def test_an_average_of_another_model_is_not_named(recwarn: pytest.WarningsRecorder) -> None:
    average = ExponentialMovingAverage(net())
    convert_iebn(net())
    assert average.module is not None and not recwarn.list


def test_a_parallel_model_from_before_the_conversion_is_named() -> None:
    model = net()
    parallel = object.__new__(paddle.DataParallel)  # to make one takes processes
    nn.Layer.__init__(parallel)
    parallel._layers = model
    with pytest.warns(UserWarning, match="this DataParallel was made before .* will not synchronise"):
        convert_iebn(model)
    assert parallel is not None


def test_a_norm_of_another_class_is_converted_as_one_says() -> None:
    model = nn.Sequential(nn.Conv2D(3, 3, 1), Loud(3))
    weight = model[1].weight
    convert_iebn(model, also={Loud: IEBN2D.from_batchnorm})
    assert type(model[1]) is IEBN2D and model[1].weight is weight
    model = nn.Sequential(Loud(3))
    model.eval()
    expected = model(images()).numpy()
    convert_iebn(model, also={Loud: IEBN2D.from_batchnorm}, preserve_output=True)
    np.testing.assert_allclose(model(images()).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [IEBN2D, nn.BatchNorm2D])
def test_averaged_weights_get_statistics_of_their_own(kind: Any) -> None:
    """The mean of the batches' means and biased variances, in one pass; what is global stays."""
    batches = [(images(seed), None) for seed in range(3)]
    model = nn.Sequential(kind(3), nn.Conv2D(3, 3, 1), nn.BatchNorm2D(3, use_global_stats=True))
    model[0]._mean.set_value(np.full(3, 9.0, "float32"))
    before = model[2]._mean.numpy(), model[0]._momentum
    model.eval()
    update_bn(batches, model)
    arrays = [x.numpy().astype("float64") for x, _ in batches]
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(
        model[0]._mean.numpy(), np.mean([x.mean((0, 2, 3)) for x in arrays], 0), **close
    )
    np.testing.assert_allclose(
        model[0]._variance.numpy(), np.mean([x.var((0, 2, 3)) for x in arrays], 0), **close
    )
    assert np.array_equal(model[2]._mean.numpy(), before[0])
    assert model[0]._momentum == before[1] and not any(layer.training for layer in model.sublayers(True))


class Siamese(nn.Layer):
    """Uses its norm twice in a batch, and another one in some batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rare = IEBN2D(3), RBN2D(3)

    def forward(self, x: paddle.Tensor) -> None:
        self.norm(x)
        self.norm(x * 3 + 1)
        if float(x.mean()) > 1:
            self.rare(x)


def test_update_bn_averages_over_all_uses() -> None:
    batches, model = [images(seed) + seed for seed in range(4)], Siamese()
    update_bn(batches, model)
    every = [used for x in batches for used in (x, x * 3 + 1)]
    for norm, uses in (model.norm, every), (model.rare, [x for x in batches if float(x.mean()) > 1]):
        assert 0 < len(uses) != 4
        arrays = [x.numpy().astype("float64") for x in uses]
        for own, one in (norm._mean, np.mean), (norm._variance, np.var):
            expected = np.mean([one(each, (0, 2, 3)) for each in arrays], 0)
            np.testing.assert_allclose(own.numpy(), expected, rtol=1e-5, atol=1e-6)
        assert norm._momentum == 0.9 and not norm._forward_pre_hooks


class Listed(nn.Layer):
    """Runs its layers from a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2D(3)
        self.steps = [self.norm, nn.functional.relu]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for step in self.steps:
            x = step(x)
        return x


def test_norms_that_a_network_runs_from_a_list_of_its_own_are_converted_there_too() -> None:
    model = Listed()
    model.eval()
    expected = model(images()).numpy()
    convert_iebn(model, preserve_output=True)
    assert type(model.steps[0]) is IEBN2D and model.steps[0] is model.norm
    np.testing.assert_allclose(model(images()).numpy(), expected, rtol=1e-5, atol=1e-6)
    SyncIEBN.convert_sync_iebn(model)
    assert type(model.steps[0]) is SyncIEBN and model.steps[0] is model.norm
