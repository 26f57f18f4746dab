"""What does more than blend, in compiled steps: other statistics, aligned maps, noise, several places at once."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import mixlayers.jax
from mixlayers import (
    DSU,
    AlignMixup,
    DropBlock,
    ManifoldMixup,
    MixingError,
    MixStyle,
    MoEx,
    NoisyFeatureMixup,
    OneOf,
    PAdaIN,
    Scheduled,
)
from mixlayers._core.batch.carry import carry_out
from mixlayers._core.framework.numpy_arrays import NUMPY
from mixlayers.jax import cross_entropy, stacked
from mixlayers_jax._blend import Partners
from mixlayers_jax._framework import JAX
from tests.jax.jax_libraries import Function, Nnx, batch, same

METHODS = [
    MoEx(0.7),
    MoEx(over=2),
    AlignMixup(eps=1.0, rounds=5),
    AlignMixup(eps=1.0, rounds=5, lam_per="sample"),
    MixStyle(prob=1.0, every_place=False),
    MixStyle(prob=1.0, every_place=False, lam_per="batch"),
    PAdaIN(prob=1.0, every_place=False),
    DSU(prob=1.0, every_place=False),
]


def by_numpy(lib, model, x, plan):
    """The output with what the core's plan says carried out by NumPy between the model's parts."""
    for name, stage in lib.stages(model):
        x = np.asarray(stage(x))
        own = plan.at(name)
        if own is not None:
            x = carry_out(NUMPY, x, own.blend(x.shape, lib.channel_dim), NUMPY.partners(own.perm))
    return x


def counting(lib, mixer):
    """A compiled forward; and what it was traced for."""
    traced = []

    @jax.jit
    def forward(model, x, y, plan):
        traced.append(plan.reached)
        logits, target = lib.forward(mixer, model, x, y, plan)
        return logits, cross_entropy(logits, target)

    return forward, traced


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_step_does_what_numpy_does_and_compiles_once(method):
    lib, (x, y) = Nnx(), batch()
    model = lib.model()
    mixer = lib.mixer(model, method, ["layer2"], seed=1)
    forward, traced = counting(lib, mixer)
    for _ in range(4):
        logits, loss = forward(model, x, y, mixer.plan(6))
        same(logits, by_numpy(lib, model, x, mixer.last), 1e-5)
        s = getattr(mixer.last.blend(mixer.audit["layer2"].shape, -1), "s", 0.0)
        one, other = cross_entropy(logits, y), cross_entropy(logits, y[mixer.last.perm])
        if not np.ndim(s):
            np.testing.assert_allclose(loss, (1 - s) * one + s * other, rtol=1e-5)
    assert len(traced) == 1


def test_methods_at_every_place_in_one_compiled_function(lib):
    x, y = batch()
    x, model = lib.images(x), lib.model()
    mixer = lib.mixer(model, MixStyle(), ["layer1", "layer2"], seed=2)
    forward, traced = counting(lib, mixer)
    seen = set()
    for _ in range(8):
        plan = mixer.plan(6)
        assert plan.place is None and not plan.mixes and plan.reached == ("layer1", "layer2")
        logits, loss = forward(model, x, y, plan)
        same(logits, by_numpy(lib, model, x, mixer.last), 1e-5)
        np.testing.assert_allclose(loss, cross_entropy(logits, y), rtol=1e-6)
        seen.add(mixer.last.places)
    assert seen >= {(), ("layer1", "layer2")} and len(traced) == 1
    assert mixer.history.steps == 8


@pytest.mark.parametrize(
    "method",
    [DropBlock(0.3, 2, every_place=True, prob=0.5), DSU(), Scheduled(PAdaIN(prob=0.5), start=2)],
    ids=repr,
)
def test_others_at_every_place(method):
    lib, (x, y) = Function(), batch()
    model = lib.model()
    mixer = lib.mixer(model, method, ["stem", "layer2"], seed=2)
    forward, traced = counting(lib, mixer)
    for _ in range(6):
        logits, _ = forward(model, x, y, mixer.plan(6))
        same(logits, by_numpy(lib, model, x, mixer.last), 1e-5)
    assert len(traced) == (2 if isinstance(method, Scheduled) else 1)


def test_with_a_method_that_mixes_labels():
    lib, (x, y) = Function(), batch()
    model = lib.model()
    mixer = lib.mixer(model, OneOf([MixStyle(prob=1.0), ManifoldMixup()]), ["layer1", "layer2"])
    forward, traced = counting(lib, mixer)
    for _ in range(10):
        logits, _ = forward(model, x, y, mixer.plan(6))
        same(logits, by_numpy(lib, model, x, mixer.last), 1e-5)
    assert sorted(traced) == [("layer1",), ("layer1", "layer2"), ("layer2",)]


def test_noise_is_its_seeds_wherever_it_is_made():
    """Compiled, outside of jit, and recomputed; another step's is other noise."""
    lib, (x, y) = Function(), batch()
    model = lib.model()
    mixer = lib.mixer(model, NoisyFeatureMixup(), ["layer1"], seed=3)
    forward, traced = counting(lib, mixer)
    found = []
    for _ in range(2):
        plan, hidden = mixer.plan(6), x
        for name, stage in lib.stages(model):
            hidden = stage(hidden)
            if name == "layer1":
                how = mixer.last.blend(hidden.shape, -1)
                hidden = carry_out(JAX, hidden, how, Partners.drawn(mixer.last.perm))
        found.append(forward(model, x, y, plan)[0])
        same(found[-1], hidden)
    assert len(traced) == 1 and np.abs(found[0] - found[1]).max() > 1e-3

    def loss(model, checkpoint):
        net = jax.checkpoint(lib.net) if checkpoint else lib.net
        return cross_entropy(net(model, x, plan), mixer.target(y, plan))

    plain, again = (jax.jit(jax.grad(partial(loss, checkpoint=flag)))(model) for flag in (False, True))
    same(again, plain)


@pytest.mark.parametrize("method", [NoisyFeatureMixup(), AlignMixup(rounds=2), MixStyle(prob=1.0)], ids=repr)
def test_half_precision_stays(method):
    plan = Function().mixer(Function().model(), method, ["layer1"]).plan(6)
    x = np.random.default_rng(0).normal(size=(6, 6, 6, 4)).astype(np.float32)
    mix = jax.jit(mixlayers.jax.blend, static_argnums=2)
    half, whole = mix(x.astype("bfloat16"), plan, "layer1"), mix(x, plan, "layer1")
    assert half.dtype == "bfloat16"
    if not isinstance(method, NoisyFeatureMixup):  # whose noise each dtype draws for itself
        np.testing.assert_allclose(half.astype("float32"), whole, atol=0.1)


def test_a_scan_over_steps_that_act_at_every_place():
    lib, (x, _) = Function(), batch()
    model = lib.model()
    mixer = lib.mixer(model, MixStyle(), ["layer1", "layer2"], one_compilation=True)
    plans = [mixer.plan(6) for _ in range(3)]
    together = jax.lax.map(lambda plan: lib.net(model, x, plan), stacked(plans))
    for plan, output in zip(plans, together, strict=True):
        same(output, lib.net(model, x, plan))


def test_each_device_has_its_own_under_pmap():
    lib, (x, _) = Function(), batch(16)
    model = lib.model()
    mixer = lib.mixer(model, MixStyle(prob=1.0), ["layer1"], example=x)
    plans = [mixer.plan(4) for _ in range(4)]
    outputs = jax.pmap(lambda x, plan: lib.net(model, x, plan))(x.reshape(4, 4, 6, 6, 3), stacked(plans))
    for at, plan in enumerate(plans):
        same(outputs[at], lib.net(model, x[4 * at : 4 * at + 4], plan))


def test_aligned_maps_within_groups():
    lib, (x, _) = Function(), batch(8)
    model = lib.model()
    mixer = lib.mixer(model, AlignMixup(eps=1.0, rounds=5), ["stem"], example=x)
    plan, hidden = mixer.plan(8, groups=2), np.asarray(x @ model["stem"])
    whole = (np.arange(2)[:, None] * 4 + plan.perm).reshape(-1)
    how = replace(mixer.last.blend((4, *hidden.shape[1:]), -1), perm=whole)
    expected = carry_out(NUMPY, hidden, how, NUMPY.partners(whole))
    same(jax.jit(mixlayers.jax.blend, static_argnums=2)(hidden, plan, "stem"), expected, 1e-5)


def test_what_is_refused():
    lib, (x, y) = Function(), batch()
    model = lib.model()
    mixer = lib.mixer(model, MoEx(over=2), ["layer1"])
    with pytest.raises(
        MixingError, match=r"statistics are for a feature of shape .* give the mixer an example"
    ):
        lib.forward(mixer, model, x[:, :4], y, mixer.plan(6))
    mixer = lib.mixer(model, DSU(prob=1.0, every_place=False), ["layer1"])
    plan = mixer.plan(6)
    with pytest.raises(MixingError, match="statistics are for a feature"):
        mixlayers.jax.blend(x, plan, "layer1")  # of three channels
    mixer = lib.mixer(model, AlignMixup(), ["layer1"], one_compilation=True)
    with pytest.raises(ValueError, match="one_compilation=True is for methods that blend or paste"):
        mixer.plan(6)
    with pytest.raises(ValueError, match="or one that acts at every place, got OneOf"):
        lib.mixer(model, OneOf([MixStyle(), ManifoldMixup()]), ["layer1"], one_compilation=True)
    mixer = lib.mixer(model, MixStyle(), ["layer1"], example=batch(8)[0])
    with pytest.raises(ValueError, match="plans in groups are for methods that draw one lam"):
        mixer.plan(8, groups=2)
    mixer = lib.mixer(model, NoisyFeatureMixup(), ["layer1"], example=batch(8)[0])
    with pytest.raises(ValueError, match="the same noise on each device"):
        mixer.plan(8, groups=2)
