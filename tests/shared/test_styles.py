"""MixStyle, DSU, pAdaIN and MoEx in every framework: values, gradients, labels, several places, recomputation."""

import numpy as np
import pytest

from mixlayers import DSU, DropBlock, ManifoldMixup, MixStyle, Mixup, MoEx, OneOf, PAdaIN
from tests.support import reference
from tests.support.everywhere import everywhere

MIXING = [MixStyle(prob=1.0), MixStyle(0.4, "frequency", prob=1.0, fold=True, lam_per="batch")]
EXCHANGING = [MoEx(), MoEx(0.9, "space"), MoEx(over="all"), MoEx(over=2)]
SHAPE = (4, 4, 5, 3)
TOLERANCES = {"float64": 1e-6, "float32": 2e-4}  # lam is float32


def described(method):
    """The recipe's axes and eps; and the feature's shape as it is looked at."""
    how = method.plan(step=3, batch_size=4, places=("0",), seed=5).blend(SHAPE)
    return how, how.shape or SHAPE


def layer(fw, method, y):
    return lambda x: fw.mix_hidden(x, fw.tensor(y), method, step=3, seed=5)[0]


@everywhere
@pytest.mark.parametrize("method", MIXING, ids=repr)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mixstyle_and_its_gradient_equal_the_reference(fw, method, dtype):
    """dx = sd' / sd * G: statistics are constants, and nothing flows to the partner."""
    rng, y = np.random.default_rng(1), np.arange(4)
    x, upstream = rng.normal(1.0, 2.0, SHAPE), rng.normal(size=SHAPE)
    how, _ = described(method)
    axes = (2, 3) if method.over == "space" else (1, 3)
    mean, sd = reference.moments(x, axes, 1e-6)
    keep = np.broadcast_to(how.keep, 4).astype(np.float64).reshape(4, 1, 1, 1)
    new = keep * mean + (1 - keep) * mean[how.perm], keep * sd + (1 - keep) * sd[how.perm]
    tensor, tolerance = fw.tensor(x, dtype), TOLERANCES[dtype]
    mixed, target = fw.mix_hidden(tensor, fw.tensor(y), method, step=3, seed=5)
    expected = reference.restyle(x, axes, 1e-6, new)
    np.testing.assert_allclose(fw.numpy(mixed), expected, rtol=tolerance, atol=tolerance)
    assert fw.dtype(mixed) == dtype and not target.mixed and target.s == 0.0
    gradient = fw.gradient(layer(fw, method, y), tensor, upstream)
    np.testing.assert_allclose(gradient, upstream * new[1] / sd, rtol=tolerance, atol=tolerance)


@everywhere
@pytest.mark.parametrize("method", EXCHANGING, ids=repr)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_moex_and_its_gradient_equal_the_closed_form(fw, method, dtype):
    rng, y = np.random.default_rng(2), np.arange(4)
    x, upstream = rng.normal(1.0, 2.0, SHAPE), rng.normal(size=SHAPE)
    how, seen = described(method)
    mean, sd = (part[how.perm] for part in reference.moments(x.reshape(seen), how.axes, 1e-5))
    tensor, tolerance = fw.tensor(x, dtype), TOLERANCES[dtype]
    mixed, target = fw.mix_hidden(tensor, fw.tensor(y), method, step=3, seed=5)
    expected = reference.restyle(x.reshape(seen), how.axes, 1e-5, (mean, sd)).reshape(SHAPE)
    np.testing.assert_allclose(fw.numpy(mixed), expected, rtol=tolerance, atol=tolerance)
    soft = reference.soft_target(y, how.perm, 1.0 - method.lam, 4)
    np.testing.assert_allclose(fw.numpy(target.soft(4)), soft, atol=1e-6)
    gradient = fw.gradient(layer(fw, method, y), tensor, upstream)
    wanted = reference.exchange_moments_backward(
        upstream.reshape(seen), x.reshape(seen), how.perm, how.axes, 1e-5
    ).reshape(SHAPE)
    np.testing.assert_allclose(gradient, wanted, rtol=tolerance, atol=tolerance)


@everywhere
@pytest.mark.parametrize("method", [DSU(prob=1.0), PAdaIN(prob=1.0)], ids=repr)
def test_dsu_and_padain_equal_their_definition_and_its_differences(fw, method):
    rng, y = np.random.default_rng(3), np.arange(4)
    x, upstream = rng.normal(1.0, 2.0, SHAPE), rng.normal(size=SHAPE)
    how, _ = described(method)
    held = reference.moments(x, (2, 3), 1e-5)  # pAdaIN's partner is a constant

    def defined(x):
        if how.noise is None:
            return reference.restyle(x, (2, 3), 1e-5, tuple(part[how.perm] for part in held))
        new = []
        for own, noise in zip(reference.moments(x, (2, 3), 1e-6), how.noise, strict=True):
            new.append(own + noise * np.sqrt(own.var(0, ddof=1, keepdims=True) + 1e-6))
        return reference.restyle(x, (2, 3), 1e-6, new)

    tensor = fw.tensor(x, "float64")
    mixed, target = fw.mix_hidden(tensor, fw.tensor(y), method, step=3, seed=5)
    np.testing.assert_allclose(fw.numpy(mixed), defined(x), rtol=1e-9, atol=1e-9)
    assert not target.mixed
    gradient = fw.gradient(layer(fw, method, y), tensor, upstream)
    np.testing.assert_allclose(
        gradient, reference.numeric_gradient(defined, x, upstream), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "method", [MixStyle(prob=1.0), DSU(prob=1.0), DropBlock(0.4, 3, every_place=True)], ids=repr
)
def test_a_plain_training_forward_acts_at_every_layer(fw, method):
    (x, y), plain, model, one = fw.batch(), fw.net(), fw.net(), fw.net()
    mixer = fw.face.Mixer(model, method, ["layer1", "layer2"])
    alone = fw.face.Mixer(one, method, ["layer1"])
    first, second, clean = fw.numpy(model(x)), fw.numpy(one(x)), fw.numpy(plain(x))
    assert mixer.last.places == ("layer1", "layer2") and alone.last.places == ("layer1",)
    assert not np.allclose(first, clean) and not np.allclose(first, second)
    fw.load(plain, fw.state(model))
    with fw.evaluating(model, plain):
        fw.close(model(x), plain(x))
    output, target = model(x, target=y)
    assert not target.mixed and target.blend(lambda labels: labels) is y
    criterion = mixer.loss(fw.criterion())
    output = model(x)
    fw.close(criterion(output, y), fw.cross_entropy(output, y))


def test_each_layer_gets_what_the_plan_says_of_it(fw):
    """Two layers that hand on what they get: the second's features are the first's, restyled again."""
    x, _ = fw.batch(4)
    model = fw.sequential(fw.function(lambda x: x), fw.function(lambda x: x))
    mixer = fw.face.Mixer(model, MixStyle(prob=1.0), ["0", "1"], seed=3)
    found, expected = fw.numpy(model(x)), fw.numpy(x)
    for place in ("0", "1"):
        plan = mixer.last.at(place)
        mean, sd = reference.moments(expected, (2, 3), 1e-6)
        keep = plan.lam.reshape(4, 1, 1, 1).astype(np.float64)
        new = keep * mean + (1 - keep) * mean[plan.perm], keep * sd + (1 - keep) * sd[plan.perm]
        expected = reference.restyle(expected, (2, 3), 1e-6, new)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [MixStyle(prob=1.0), DSU(prob=1.0), MoEx(over="space")], ids=repr)
def test_recomputed_layers_repeat_in_backward(fw, method):
    (x, y), models = fw.batch(), []
    for kind in (None, *fw.Recomputed):
        model = fw.face.wrap(fw.net(kind), method, ["layer1", "layer2"], seed=2)
        total = 0
        for scale in (1.0, 2.0):
            output, target = model(x * scale, target=y)
            total = total + fw.face.cross_entropy(output, target)
        total.backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0])


def test_a_layer_that_does_not_run_is_named(fw):
    (x, _), model = fw.batch(), fw.net()
    fw.add_layer(model, "idle", fw.linear(2, 2))
    fw.face.wrap(model, MixStyle(prob=1.0), ["layer1", "idle"])
    with pytest.raises(Exception, match="the planned layer 'idle' did not run"):
        model(x)


def test_moex_goes_through_a_criterion(fw):
    (x, y), model = fw.batch(), fw.net()
    mixer = fw.face.Mixer(model, MoEx(0.7), ["layer1"], seed=1)
    criterion = mixer.loss(fw.criterion())
    output = model(x)
    loss = criterion(output, y)
    soft = reference.soft_target(fw.numpy(y).astype(int), mixer.last.perm, 0.3, 4)
    np.testing.assert_allclose(fw.numpy(loss), reference.cross_entropy(fw.numpy(output), soft), rtol=1e-5)
    loss.backward()


@everywhere
def test_half_precision_is_measured_in_single(fw):
    """A map of values around 3000, whose squares overflow half precision."""
    x = np.random.default_rng(4).normal(3000.0, 50.0, (4, 2, 8, 8)).astype(np.float16)
    x[:2] /= 2
    half, y = fw.tensor(x, "float16"), fw.tensor(np.arange(4))
    mixed, _ = fw.face.mix(half, y, MoEx(over="space"), step=1)
    exact, target = fw.face.mix(fw.tensor(x, "float64"), y, MoEx(over="space"), step=1)
    assert fw.dtype(mixed) == "float16" and (target.plan.perm != np.arange(4)).any()
    np.testing.assert_allclose(fw.numpy(mixed), fw.numpy(exact), rtol=2e-3)


def test_it_goes_with_mixing_of_the_input(fw):
    (x, y), model = fw.batch(), fw.face.wrap(fw.net(), MixStyle(prob=1.0), ["layer1", "layer2"])
    mixed, target = fw.face.mix(x, y, Mixup(), step=0)
    fw.face.cross_entropy(model(mixed), target).backward()
    assert target.mixed and fw.face.get_mixer(model).last.places == ("layer1", "layer2")


def test_with_a_method_that_mixes_labels_it_waits_for_them(fw):
    (x, y), model = fw.batch(), fw.net()
    mixer = fw.face.Mixer(model, OneOf({MixStyle(prob=1.0): 1, ManifoldMixup(): 1}), ["layer1", "layer2"])
    model(x)
    assert mixer.step == 0
    seen = set()
    for _ in range(10):
        output, target = model(x, target=y)
        seen.add((target.mixed, len(target.plan.places)))
        fw.face.cross_entropy(output, target).backward()
    assert seen == {(True, 1), (False, 2)}
