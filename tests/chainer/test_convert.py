"""convert_iebn and its way back: nothing is lost, nothing is silently left untrained."""

import logging
from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Chain, ChainList, Sequential
from chainer.optimizer_hooks import WeightDecay

from mixlayers import ManifoldMixup
from mixlayers_chainer import unwrap, wrap
from mixlayers_chainer._iebn.convert import convert_iebn, iebn_parameters, revert_iebn
from mixlayers_chainer._iebn.layer import IEBN

AXIS = {"axis": (0, 2, 3)}


class Net(Chain):
    """A norm as an attribute, in a ChainList, in a Sequential; one twice, one also in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(3, 4, 3, pad=1)
            self.norm = L.BatchNormalization(4)
            self.blocks = ChainList(
                L.BatchNormalization(4), Sequential(L.BatchNormalization(4, **AXIS), F.relu)
            )
            self.again = self.norm
            self.head = L.Linear(None, 3)
        self.plain = [self.norm]

    def forward(self, x: Any) -> Any:
        h = F.relu(self.norm(self.conv(x)))
        h = self.blocks[1](self.blocks[0](h))
        return self.head(self.plain[0](h))


NORMS = ("norm", "blocks.0", "blocks.1.0", "again")


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((6, 3, 5, 5)).astype(np.float32) * 2 + 1


def trained() -> Net:
    """A network whose statistics and weights are not the initial ones."""
    model, rng = Net(), np.random.default_rng(3)
    model(images())
    for _, parameter in sorted(model.namedparams()):
        parameter.array[...] = 0.1 + rng.random(parameter.shape)
    model(images(1))
    return model


def step(model: chainer.Link) -> None:
    model.cleargrads()
    F.softmax_cross_entropy(model(images()), np.arange(6) % 3).backward()


def outputs(model: chainer.Link) -> np.ndarray:
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        return model(images(2)).array


def test_every_norm_is_converted_once_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    model = trained()
    count, norm = sum(each.size for each in model.params()), model.norm
    with caplog.at_level(logging.INFO, "mixlayers"):
        assert convert_iebn(model) is model
    assert f"replaced 3 norms by IEBN, +24 parameters: {', '.join(NORMS)}" in caplog.text
    assert model.norm is model.again is model.plain[0] is norm
    assert {type(each) for each in (norm, model.blocks[0], model.blocks[1][0])} == {IEBN}
    unique = {id(each): each.size for each in model.params()}
    assert sum(unique.values()) == count - 8 + 24  # `again` counted twice before
    step(model)
    assert all(each.grad is not None for each in model.params())


def test_a_resnet50_keeps_its_names_and_its_files() -> None:
    model = L.ResNet50Layers(pretrained_model=None)
    names = {name for name, _ in model.namedparams()}
    convert_iebn(model)
    norms = [link for link in model.links() if isinstance(link, IEBN)]
    added = {name for name, _ in model.namedparams()} - names
    assert (len(norms), len(added)) == (53, 106)
    assert {name.rpartition("/")[2] for name in added} == {"weight_readjust", "bias_readjust"}
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        assert np.isfinite(model(np.zeros((1, 3, 32, 32), np.float32), ["res2"])["res2"].array).all()


def test_gammas_that_links_share_are_scaled_once() -> None:
    norm = L.BatchNormalization(3)
    model = convert_iebn(Sequential(norm, norm.copy("share")), preserve_output=True)
    np.testing.assert_allclose(model[0].gamma.array, np.full(3, 1 + np.e), rtol=1e-6)
    assert model[1].gamma.array is model[0].gamma.array


def test_conversion_keeps_parameters_statistics_and_hooks() -> None:
    model, calls = trained(), []

    class Count(chainer.LinkHook):
        def forward_preprocess(self, args: Any) -> None:
            calls.append(args.link)

    norm = model.blocks[0]
    norm.add_hook(Count())
    before = {
        name: getattr(norm, name) for name in ("gamma", "beta", "avg_mean", "avg_var", "N", "eps", "name")
    }
    convert_iebn(model)
    assert all(getattr(model.blocks[0], name) is value for name, value in before.items())
    model(images())
    assert calls == [norm]


def test_skip_a_root_and_a_lazy_norm() -> None:
    model = convert_iebn(trained(), skip="blocks.*")
    assert type(model.norm) is IEBN and type(model.blocks[0]) is L.BatchNormalization
    shared = convert_iebn(trained(), skip="again")  # another name of model.norm
    assert type(shared.norm) is L.BatchNormalization and type(shared.blocks[0]) is IEBN
    lazy = convert_iebn(Sequential(L.BatchNormalization(**AXIS)))
    assert lazy(images()).shape == images().shape
    assert lazy[0].bias_readjust.shape == (3,)
    assert type(convert_iebn(L.BatchNormalization(3))) is IEBN
    assert type(revert_iebn(IEBN(3))) is L.BatchNormalization
    assert type(revert_iebn(IEBN(**AXIS))) is L.BatchNormalization


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (
            lambda: convert_iebn(Sequential(L.BatchNormalization(3, use_gamma=False)), preserve_output=True),
            "got use_gamma=False in '0'",
        ),
        (
            lambda: convert_iebn(Sequential(L.BatchNormalization(**AXIS)), preserve_output=True),
            "run the model once",
        ),
        (
            lambda: convert_iebn(Sequential(L.BatchNormalization(axis=(2, 3)))),
            r"'0' cannot be IEBN, skip it: axis.*\(2, 3\)",
        ),
    ],
)
def test_wrong_use_says_what_is_missing(act: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        act()


def test_a_norm_of_another_class_is_left_with_a_warning_unless_it_is_skipped() -> None:
    def model() -> Sequential:
        return Sequential(L.BatchNormalization(3), L.BatchRenormalization(3), F.relu)

    with pytest.warns(UserWarning, match="left as they are: '1', of type BatchRenormalization") as caught:
        converted = convert_iebn(wrap(model(), ManifoldMixup(), ["1"]))
    assert [each.filename for each in caught] == [__file__]
    assert isinstance(converted[0], IEBN) and not isinstance(converted[1], IEBN)
    assert type(convert_iebn(model(), skip="1")[1]) is L.BatchRenormalization


def test_a_mixer_on_the_model_stays() -> None:
    model = trained()
    wrap(model, ManifoldMixup(alpha=1.0), ["blocks.0"])
    y = np.arange(6) % 3
    _, target = convert_iebn(model)(images(), target=y)
    assert target.layer == "blocks.0"
    assert isinstance(model.blocks[0], IEBN)
    unwrap(model)
    assert type(model.blocks[0]) is IEBN
    revert_iebn(wrap(model, ManifoldMixup(alpha=1.0), ["blocks.0"]))
    assert type(unwrap(model).blocks[0]) is L.BatchNormalization


def test_an_optimizer_that_was_set_up_before_is_pointed_out_and_can_be_mended() -> None:
    model = trained()
    optimizer = chainer.optimizers.MomentumSGD(0.1).setup(model)
    with pytest.warns(UserWarning, match="will not train the 6 new parameters"):
        convert_iebn(model)
    for parameter in iebn_parameters(model)[1]:
        parameter.update_rule = optimizer.create_update_rule()
    step(model)
    before = model.norm.bias_readjust.array.copy()
    optimizer.update()
    assert not np.array_equal(model.norm.bias_readjust.array, before)


def test_a_frozen_model_stays_frozen_without_a_word() -> None:
    model = trained()
    optimizer = chainer.optimizers.SGD(0.1).setup(model)
    model.disable_update()
    convert_iebn(model)
    step(model)
    optimizer.update()
    assert np.array_equal(model.norm.bias_readjust.array, np.full(4, -1.0))


def test_parameters_are_told_apart_and_decay_spares_the_attention() -> None:
    model = convert_iebn(trained())
    others, attention = iebn_parameters(model)
    assert len(attention) == 6
    assert len({id(each) for each in (*others, *attention)}) == len(others) + 6
    optimizer = chainer.optimizers.SGD(0.1).setup(model)
    for parameter in others:
        parameter.update_rule.add_hook(WeightDecay(0.5))
    model.cleargrads()
    for parameter in (*others, *attention):
        parameter.grad = np.zeros_like(parameter.array)
    before = others[0].array.copy()
    optimizer.update()
    assert np.array_equal(model.norm.bias_readjust.array, np.full(4, -1.0))
    assert not np.array_equal(others[0].array, before)
