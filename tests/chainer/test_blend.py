"""The function node: bit-equal to mixing by hand, its derivatives, and what it leaves alone."""

import chainer.functions as F
import numpy as np
import pytest
from chainer import Variable

from mixlayers import ManifoldMixup, Mixup
from mixlayers.chainer import cross_entropy, get_mixer, mix, unwrap, wrap
from mixlayers_chainer._blend import _LARGE, Partners, blend
from tests.chainer.chainer_networks import Net
from tests.support.methods import METHODS


def how_for(method, shape, step=1):
    plan = method.plan(step=step, batch_size=shape[0], places=("hidden",))
    return plan.blend(shape), Partners(plan.perm)


def normal(shape, dtype="float64"):
    return Variable(np.random.default_rng(0).standard_normal(shape).astype(dtype))


def by_hand(x, how):
    lam = how.lam if isinstance(how.lam, float) else how.lam.astype(x.dtype).reshape(-1, 1, 1, 1)
    mixed = lam * x + (1 - lam) * x[how.perm]
    return mixed if how.mask is None else F.where(np.broadcast_to(how.mask, x.shape), mixed, x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("shape", [(5, 4, 6, 7), (3, 4, 46, 46)], ids=["small", "large"])
def test_values_and_gradients_are_bit_equal_to_mixing_by_hand(method, dtype, shape):
    assert (np.prod(shape[1:]) >= _LARGE) == (shape[2] > 40), "no longer one shape for each kernel"
    upstream, found = normal(shape, dtype).array * 3, []
    how, partners = how_for(method, shape)
    for f in (lambda x: blend(x, how, partners), lambda x: by_hand(x, how)):
        x = normal(shape, dtype)
        y = f(x)
        F.sum(y * upstream).backward()
        found.append((y.array, x.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("place", ["input", "stem", "layer1", "layer2.conv", "layer2", "layer3", "head"])
def test_a_networks_gradients_are_bit_equal_to_mixing_by_hand(place):
    np.random.seed(0)  # noqa: NPY002  # Chainer draws weights from the global generator
    model, x, y = Net(), normal((6, 3, 8, 8), "float32").array, np.arange(6) % 4
    model.cleargrads()
    wrap(model, ManifoldMixup(), layers=[place], trust=True)
    cross_entropy(*model(Variable(x), target=y)).backward()
    plan, ours = get_mixer(model).last, {name: p.grad for name, p in model.namedparams()}
    unwrap(model).cleargrads()
    eye, s = np.eye(4, dtype=np.float32), 1 - plan.lam
    labels = (1 - s) * eye[y] + s * eye[y[plan.perm]]
    output = mixed_by_hand(model, place, Variable(x), plan)
    (-F.sum(labels * F.log_softmax(output)) * (1 / 6)).backward()
    for name, p in model.namedparams():
        np.testing.assert_array_equal(ours[name], p.grad, err_msg=name)


def mixed_by_hand(model, place, x, plan):
    """The network, written out once more."""

    def at(name, h):
        return plan.lam * h + (1 - plan.lam) * h[plan.perm] if name == place else h

    h = at("stem", model.stem(at("input", x)))
    for name in ("layer1", "layer2", "layer3"):
        block = model[name]
        inner = at(f"{name}.norm", block.norm(at(f"{name}.conv", block.conv(h))))
        h = at(name, F.relu(h + inner))
    return at("head", model.head(F.mean(h, (2, 3))))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_nothing_is_retained_and_the_callers_batch_not_written_to(method):
    x, y = normal((4, 2, 6, 4)), np.arange(4)
    before, labels = x.array.copy(), y.copy()
    mixed, _ = mix(x, y, method, step=1)
    node = mixed.creator_node
    assert node._input_indexes_to_retain is None and node._output_indexes_to_retain is None
    mixed.array[...] = 0
    assert np.array_equal(x.array, before) and np.array_equal(y, labels)


def test_a_gradient_is_not_written_to():
    x, upstream = normal((4, 6)), normal((4, 6)).array
    how, partners = how_for(Mixup(), (4, 6))
    kept, y = upstream.copy(), blend(x, how, partners)
    y.grad = upstream
    y.backward()
    assert np.array_equal(upstream, kept)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_arrays_give_arrays(method):
    x = normal((4, 2, 6, 4)).array
    mixed, target = mix(x, np.arange(4), method, step=1)
    assert type(mixed) is np.ndarray and type(target.partner) is np.ndarray
    np.testing.assert_array_equal(mixed, mix(Variable(x), np.arange(4), method, step=1)[0].array)


def test_soft_labels_of_a_teacher_get_gradients():
    teacher = normal((4, 3))
    x, target = mix(normal((4, 5)), F.softmax(teacher), Mixup(), step=1)
    cross_entropy(x[:, :3], target).backward()
    assert np.abs(teacher.grad).sum() > 0
