"""A layer that is mixed runs once in each call: else the labels alone would be mixed, or the features twice."""

import copy
import pickle
from threading import Thread, current_thread, main_thread

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import mixlayers.equinox
import mixlayers.linen
import mixlayers.nnx
from mixlayers import DropBlock, ManifoldMixup, MixingError

X, Y = np.random.default_rng(0).standard_normal((6, 5)).astype("f"), np.arange(6) % 3
NEVER, TWICE = "'first' did not run when the model was called", "'first' ran 2 times in one call"


class Net(nnx.Module):
    """Its layers run as often as it is told."""

    def __init__(self, rngs, around):
        self.first, self.head = nnx.Linear(5, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)
        self.run = around(lambda layer, x: layer(x))

    def __call__(self, x, times=1):
        for _ in range(times):
            x = self.run(self.first, x)
        return self.head(x)


def called(f):
    """A layer, called by a function that can be pickled."""
    return call


def call(layer, x):
    return layer(x)


class LinenNet(nn.Module):
    around: type = None

    def setup(self):
        self.first, self.head = (self.around or nn.Dense)(5), nn.Dense(3)

    def __call__(self, x, times=1):
        for _ in range(times):
            x = self.first(x)
        return self.head(x)

    def other(self, x):
        return self.head(x)


class OfOne(eqx.Module):
    first: eqx.nn.Linear
    head: eqx.nn.Linear
    times: int = 1

    def __call__(self, x):
        for _ in range(self.times):
            x = self.first(x)
        return self.head(x)


def of_nnx(around=lambda f: f, method=None):
    model = Net(nnx.Rngs(0), around)
    mixer = mixlayers.nnx.Mixer(model, method, ["first"], example=X)
    return mixer, lambda plan, **options: model(X, target=Y, plan=plan, **options)


def of_linen(around=None, method=None):
    model = LinenNet(around)
    variables = model.init(jax.random.key(0), X)
    mixer = mixlayers.linen.Mixer(model, method, ["first"], example=X)
    return mixer, lambda plan, **options: mixer.apply(variables, X, target=Y, plan=plan, **options)


@pytest.mark.parametrize("of", [of_nnx, of_linen])
def test_a_layer_that_is_left_out_or_runs_again(of):
    for times, message in ((0, NEVER), (2, TWICE)):
        mixer, call = of()
        call(mixer.plan(6))[1].blend(lambda y: y)
        with pytest.raises(MixingError, match=message):
            call(mixer.plan(6), times=times)
    call(None, times=0)
    mixer, call = of(method=DropBlock(0.2, 2))  # labels that follow nothing
    call(mixer.plan(6), times=0)


def test_another_method_of_a_linen_model():
    mixer, call = of_linen()
    with pytest.raises(MixingError, match=NEVER):
        call(mixer.plan(6), method="other")


@pytest.mark.parametrize(
    ("of", "around"), [(of_nnx, nnx.jit), (of_nnx, nnx.remat), (of_linen, nn.jit(nn.Dense))]
)
def test_a_layer_whose_trace_is_at_hand_runs_unseen(of, around):
    mixer, call = of(around)
    for _ in range(3):
        plan = mixer.plan(6)
        output, target = call(plan)
        target.blend(lambda y: y)
    assert not np.allclose(output, call(None)[0])
    mixer, call = of(around)
    with pytest.raises(MixingError, match=NEVER):
        call(mixer.plan(6), times=0)


def test_an_equinox_model_that_leaves_a_layer_out_is_told_by_the_next_plan():
    model = OfOne(*(eqx.nn.Linear(5, n, key=jax.random.key(n)) for n in (5, 3)))
    mixer = mixlayers.equinox.Mixer(model, ManifoldMixup(), ["first"], example=X)

    def step(model):
        plan = mixer.plan(6)
        jax.vmap(mixer.mixed(model, plan))(X)
        mixer.target(Y, plan).blend(lambda y: y)

    step(eqx.tree_at(lambda model: model.times, model, 0))
    with pytest.raises(MixingError, match=NEVER):
        step(model)
    forward = eqx.filter_jit(lambda model: jax.vmap(model)(X))
    for _ in range(3):  # compiled once
        plan = mixer.plan(6)
        forward(mixer.mixed(model, plan))
        mixer.target(Y, plan).blend(lambda y: y)


def test_a_sequential_hands_a_state_to_a_layer_that_is_mixed():
    def net():
        conv = eqx.nn.Conv1d(3, 4, 3, key=jax.random.key(0))
        norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        return eqx.nn.Sequential([conv, norm, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(jnp.mean)])

    model, state = eqx.nn.make_with_state(net)()
    x = np.random.default_rng(1).standard_normal((6, 3, 8)).astype("f")

    def call(model, x):
        return jax.vmap(model, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(x, state)[0]

    mixer = mixlayers.equinox.Mixer(model, layers=["layers.0"], example=x, call=call)
    plan = mixer.plan(6)
    h = jax.vmap(model.layers[0])(x)
    expected = call(model[1:], plan.lam * h + (1 - plan.lam) * h[plan.perm])
    np.testing.assert_allclose(call(mixer.mixed(model, plan), x), expected, atol=1e-6)


class Tied(eqx.Module):
    """Its head is its first layer's weight, turned round."""

    first: eqx.nn.Linear

    def __call__(self, x):
        return jnp.tanh(self.first(x)) @ self.first.weight


def test_a_layer_that_is_mixed_shows_its_weight():
    model = Tied(eqx.nn.Linear(5, 4, key=jax.random.key(0)))
    mixer = mixlayers.equinox.Mixer(model, ManifoldMixup(), ["first"], example=X)
    plan = mixer.plan(6)
    h = X @ model.first.weight.T + model.first.bias
    expected = jnp.tanh(plan.lam * h + (1 - plan.lam) * h[plan.perm]) @ model.first.weight
    np.testing.assert_allclose(jax.vmap(mixer.mixed(model, plan))(X), expected, atol=1e-6)


def test_a_linen_model_with_a_target_of_its_own():
    class Targeted(nn.Module):
        @nn.compact
        def __call__(self, x, target=None):
            return nn.Dense(3)(x)

    with pytest.raises(ValueError, match="has an argument named 'target' of its own"):
        mixlayers.linen.Mixer(Targeted(), example=X)


@pytest.mark.parametrize("trains", [False, True])
def test_what_another_thread_asks_of_an_nnx_model_is_not_mixed(trains):
    """A mixed call without nnx.jit changes the model's own layers for its time."""
    plans, seen = [], []

    def ask():
        try:
            seen.append(model(X, target=Y, plan=plans[1]) if trains else model(X))
        except MixingError as error:
            seen.append(error)

    def run(layer, x):
        x = layer(x)
        if plans and current_thread() is main_thread():
            thread = Thread(target=ask)
            thread.start()
            thread.join()
        return x

    model = Net(nnx.Rngs(0), lambda _: run)
    first = model.first(X)
    plain = model.head(first)
    mixer = mixlayers.nnx.Mixer(model, ManifoldMixup(), ["first"], example=X)
    plans += [mixer.plan(6), mixer.plan(6)]
    plan = plans[0]
    output, target = model(X, target=Y, plan=plan)
    target.blend(lambda y: y)
    lam, perm = 1 - float(plan.s), np.asarray(plan.perm)
    np.testing.assert_allclose(
        output, model.head(lam * first + (1 - lam) * first[perm]), rtol=1e-5, atol=1e-6
    )
    if trains:
        assert "'first' is being mixed by another call of the model" in str(seen[0])
    else:
        np.testing.assert_allclose(seen[0], plain, rtol=1e-6)
    plans.clear()
    assert type(model.first) is nnx.Linear and not np.allclose(output, model(X))


@pytest.mark.parametrize("of", [of_nnx, of_linen])
def test_a_call_that_raised_owes_nothing(of):
    mixer, call = of()
    plan = mixer.plan(6)
    with pytest.raises(TypeError):
        call(plan, times="once")
    assert mixer.plan(6).s != plan.s and mixer.step == 2


def test_a_wrapped_nnx_model_is_pickled_with_its_mixer_and_copies_share_theirs():
    model = Net(nnx.Rngs(0), called)
    mixer = mixlayers.nnx.Mixer(model, ManifoldMixup(), ["first"], example=X)
    mixer.plan(6)
    again, copied = pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
    assert mixlayers.nnx.get_mixer(copied) is mixer and type(copied) is type(model)
    own, plan = mixlayers.nnx.get_mixer(again).plan(6), mixer.plan(6)
    assert mixlayers.nnx.get_mixer(again).step == 2 and np.array_equal(own.perm, plan.perm)
    output, target = again(X, target=Y, plan=own)
    expected, _ = model(X, target=Y, plan=plan)
    np.testing.assert_array_equal(output, expected)
    target.blend(lambda y: y)
    assert not np.allclose(output, mixlayers.nnx.unwrap(again)(X)) and type(again) is Net
    copied(X, target=Y, plan=plan)
