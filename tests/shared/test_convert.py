"""convert_iebn and its way back: nothing is lost, nothing is silently left untrained."""

import copy
import logging
from contextlib import nullcontext

import numpy as np
import pytest

LAYERS = ("layer1", "layer2", "layer3")

pytestmark = pytest.mark.parametrize("fw", ["torch", "paddle", "chainer"], indirect=True)


def norms(model):
    return [getattr(model, name).norm for name in LAYERS]


def trained(fw):
    """A network whose statistics and weights are not the initial ones."""
    model, rng = fw.net(), np.random.default_rng(3)
    state = fw.state(model)
    own = {name: value for name, value in state.items() if "norm" in name and value.dtype.kind == "f"}
    fw.load(model, state | {name: (0.5 + rng.random(v.shape)).astype(v.dtype) for name, v in own.items()})
    model(fw.batch()[0])
    return model


def evaluated(fw, model):
    with fw.evaluating(model):
        return fw.numpy(model(fw.batch(seed=2)[0]))


def test_every_norm_is_replaced_and_reported(fw, caplog):
    model = trained(fw)
    count = len(fw.parameters(model))
    with caplog.at_level(logging.INFO, "mixlayers"):
        assert fw.face.convert_iebn(model) is model
    assert "replaced 3 norms by IEBN, +36 parameters: layer1.norm, layer2.norm, layer3.norm" in caplog.text
    assert {type(norm) for norm in norms(model)} == {fw.IEBN}
    assert len(fw.parameters(model)) == count + 6


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_preserved_output_is_the_same_function_at_first(fw, training, shared):
    plain, (x, _) = trained(fw), fw.batch()
    if shared:
        plain.layer3.norm = plain.layer2.norm
    model = fw.face.convert_iebn(copy.deepcopy(plain), preserve_output=True)
    with nullcontext() if training else fw.evaluating(plain, model):
        fw.close(model(x), plain(x), rtol=1e-4, atol=1e-4)
    fw.face.revert_iebn(model, preserve_output=True)
    np.testing.assert_allclose(evaluated(fw, model), evaluated(fw, plain), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(norm, fw.IEBN) for norm in norms(model))


def test_there_and_back_is_where_it_began(fw, caplog):
    plain = trained(fw)
    model = fw.face.convert_iebn(copy.deepcopy(plain))
    with caplog.at_level(logging.INFO, "mixlayers"):
        fw.face.revert_iebn(model)
    assert "BatchNorm" in caplog.text and ", -36 parameters: layer1.norm" in caplog.text
    assert [type(norm) for norm in norms(model)] == [type(norm) for norm in norms(plain)]
    before, after = fw.state(plain), fw.state(copy.deepcopy(model))
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_skipped_norms_stay_and_shared_ones_stay_one(fw):
    model = trained(fw)
    model.layer3.norm = model.layer2.norm
    fw.face.convert_iebn(model, skip="layer1.*")
    assert [isinstance(norm, fw.IEBN) for norm in norms(model)] == [False, True, True]
    assert model.layer3.norm is model.layer2.norm


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda fw: fw.face.convert_iebn(fw.linear(2, 2)), "no .* to convert"),
        (lambda fw: fw.face.convert_iebn(trained(fw), skip="*norm"), r"to convert: check skip='\*norm'"),
        (lambda fw: fw.face.convert_iebn(trained(fw), skip="layer9"), "'layer9' matches no layer"),
        (lambda fw: fw.face.revert_iebn(trained(fw)), "no IEBN.*: nothing to revert"),
        (lambda fw: fw.face.iebn_parameters(trained(fw)), r"convert_iebn\(model\) first"),
    ],
)
def test_wrong_use_says_what_is_missing(fw, act, says):
    with pytest.raises(ValueError, match=says):
        act(fw)


def test_folding_leaves_what_does_not_fold(fw, caplog):
    model = fw.face.convert_iebn(trained(fw))
    state = fw.state(model)
    name = next(name for name in state if "layer2" in name and "weight_readjust" in name)
    fw.load(model, state | {name: np.full_like(state[name], 0.5)})
    before = evaluated(fw, model)
    with caplog.at_level(logging.INFO, "mixlayers"):
        fw.face.revert_iebn(model, preserve_output=True)
    assert "left as IEBN, since their attention does not fold: layer2.norm" in caplog.text
    assert [isinstance(norm, fw.IEBN) for norm in norms(model)] == [False, True, False]
    np.testing.assert_allclose(evaluated(fw, model), before, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="weight_readjust is 0"):
        fw.face.revert_iebn(model, preserve_output=True)


def test_an_optimizer_that_was_made_before_is_pointed_out(fw):
    model = trained(fw)
    learn = fw.learner(model, 0.1)
    with pytest.warns(UserWarning, match="will not train the 6 new"):
        fw.face.convert_iebn(model)
    del learn


def test_groups_hold_every_parameter_once(fw):
    model = fw.face.convert_iebn(trained(fw))
    groups = fw.face.iebn_parameters(model)
    others, attention = (group["params"] if isinstance(group, dict) else group for group in groups)
    if isinstance(groups[1], dict):  # Chainer hangs its decay on parameters
        assert groups[1]["weight_decay"] == 0.0
    told = [id(parameter) for parameter in (*others, *attention)]
    assert sorted(told) == sorted(id(parameter) for parameter in fw.parameters(model))
    assert {id(norm.weight_readjust) for norm in norms(model)} < {id(each) for each in attention}
    assert len(attention) == 6


def test_a_norm_of_ones_own_class_is_left_and_named(fw):
    def model():
        model = trained(fw)
        model.layer2.norm = type("Own", (type(model.layer2.norm),), {})(6)
        return model

    with pytest.warns(UserWarning, match=r"left as they are: 'layer2.norm', of type Own"):
        converted = fw.face.convert_iebn(model())
    assert [type(norm).__name__ for norm in norms(converted)] == [fw.IEBN.__name__, "Own", fw.IEBN.__name__]
    fw.face.convert_iebn(model(), skip="layer2.*")


def test_a_converted_model_mixes_and_trains(fw):
    model, (x, y) = fw.face.convert_iebn(trained(fw)), fw.batch()
    learn, before = fw.learner(model, 1.0), fw.state(model)
    fw.face.wrap(model, layers=["layer1", "layer2"])
    learn(fw.face.cross_entropy(*model(x, target=y)))
    changed = {name for name, value in fw.state(model).items() if not np.array_equal(value, before[name])}
    assert sum("readjust" in name for name in changed) == 6
