"""IEBN and RBN in whole models of JAX's libraries: converted, reverted, trained, averaged, saved and mixed."""

import logging
from functools import partial

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import mixlayers.equinox
import mixlayers.linen
import mixlayers.nnx
from mixlayers import ManifoldMixup
from tests.jax.norms import CHANNELS, close, features, last
from tests.support.reference_norms import REFERENCES


@pytest.fixture(params=REFERENCES)
def kind(request):
    return request.param


def of(face, kind):
    """A face's class, `convert_...` and `revert_...`."""
    return (getattr(face, name) for name in (kind, f"convert_{kind.lower()}", f"revert_{kind.lower()}"))


class NnxNet(nnx.Module):
    def __init__(self, norm=nnx.BatchNorm):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(CHANNELS, CHANNELS, (3, 3), rngs=rngs)
        self.norms = nnx.List([norm(CHANNELS, rngs=rngs) for _ in range(2)])
        self.shortcut = norm(CHANNELS, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        return self.shortcut(x) + self.norms[1](nnx.relu(self.norms[0](x)))


@pytest.mark.parametrize("preserve", [True, False])
def test_nnx_converts_in_place(kind, preserve):
    ours, convert, _ = of(mixlayers.nnx, kind)
    model, x = NnxNet(), last(jnp.asarray(features(), "float32"))
    model(x)
    model.eval()
    before, held, statistics = model(x), model.norms[0], model.norms[0].var[...]
    assert convert(model, skip="shortcut", preserve_output=preserve) is model
    assert [type(norm) for norm in model.norms] == [ours] * 2
    assert type(model.shortcut) is nnx.BatchNorm
    assert model.norms[0] is held and (held.var[...] == statistics).all() and held.use_running_average
    assert np.allclose(model(x), before, atol=1e-5) == preserve
    model.train()
    gradients = nnx.jit(nnx.grad(lambda model, x: (model(x) ** 3).sum()))(model, x)
    for name in REFERENCES[kind].names[2:]:
        assert jnp.abs(getattr(gradients.norms[1], name)[...]).max() > 0
    with pytest.raises(ValueError, match="no BatchNorm layer"):
        convert(model, skip="shortcut")


def test_nnx_warns_of_subclasses_and_refuses_norms_without_a_scale():
    class Loud(nnx.BatchNorm):
        pass

    model = nnx.Sequential(Loud(4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, use_scale=False, rngs=nnx.Rngs(0)))
    with pytest.warns(UserWarning, match="Loud"), pytest.raises(ValueError, match="use_scale=False"):
        mixlayers.nnx.convert_iebn(model, preserve_output=True)


class EquinoxNet(eqx.Module):
    norms: list
    shortcut: eqx.nn.BatchNorm

    def __init__(self):
        norm = partial(eqx.nn.BatchNorm, CHANNELS, "batch", mode="batch")
        self.norms, self.shortcut = [norm(), norm()], norm()

    def __call__(self, x, state):
        y, state = self.norms[0](x, state)
        y, state = self.norms[1](jax.nn.relu(y), state)
        x, state = self.shortcut(x, state)
        return x + y, state


@pytest.mark.parametrize("preserve", [True, False])
def test_equinox_converts_a_copy_that_shares_the_state(kind, preserve):
    ours, convert, _ = of(mixlayers.equinox, kind)
    model, state = eqx.nn.make_with_state(EquinoxNet)()
    x = jnp.asarray(features(), "float32")

    @eqx.filter_jit
    def run(model, state):
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    _, state = run(model, state)
    before, _ = run(eqx.nn.inference_mode(model), state)
    new = convert(model, skip="shortcut", preserve_output=preserve)
    assert [type(norm) for norm in new.norms] == [ours] * 2
    assert type(model.norms[0]) is type(new.shortcut) is eqx.nn.BatchNorm
    after, _ = run(eqx.nn.inference_mode(new), state)
    assert np.allclose(after, before, atol=1e-5) == preserve
    gradients = eqx.filter_grad(lambda model: (run(model, state)[0] ** 3).sum())(new)
    for name in REFERENCES[kind].names[2:]:
        assert jnp.abs(getattr(gradients.norms[1], name)).max() > 0


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = mixlayers.linen.IEBN(use_running_average=False, name="norm")(nn.Dense(4, name="stem")(x))
        return nn.Dense(3, name="head")(x)


def test_linen_mixes_an_iebn_layers_output_once():
    x, y = np.random.default_rng(0).standard_normal((6, 5)).astype("f"), np.arange(6) % 3
    model = LinenNet()
    variables = model.init(jax.random.key(0), x)
    mixer = mixlayers.linen.Mixer(model, ManifoldMixup(), layers=["norm"], trust=["norm"], example=x, seed=0)
    plan = mixer.plan(6)
    (output, _), _ = mixer.apply(variables, x, target=y, plan=plan, mutable=["batch_stats"])
    clean, _ = model.apply(variables, x, mutable=["batch_stats"])
    lam = float(np.asarray(plan.lam).reshape(-1)[0])
    assert 0.02 < lam < 0.98
    close(output, lam * clean + (1 - lam) * clean[plan.perm], 1e-6)


@pytest.mark.parametrize("preserve", [True, False])
def test_nnx_reverts_in_place(kind, preserve, caplog):
    ours, convert, revert = of(mixlayers.nnx, kind)
    model, x = NnxNet(), last(jnp.asarray(features(), "float32"))
    model(x)
    model.eval()
    before, paths = model(x), [path for path, _ in nnx.to_flat_state(nnx.state(model))]
    convert(model, preserve_output=preserve)
    held = model.shortcut
    if preserve:
        held.weight_readjust[...] = jnp.ones(CHANNELS)  # its attention does not fold
    with caplog.at_level(logging.INFO, "mixlayers"):
        assert revert(model, preserve_output=preserve) is model
    assert model.shortcut is held and type(held) is (ours if preserve else nnx.BatchNorm)
    assert (f"left as {kind}, since their attention does not fold: shortcut" in caplog.text) == preserve
    if preserve:
        revert(model)
    assert [path for path, _ in nnx.to_flat_state(nnx.state(model))] == paths
    if preserve:
        held.scale[...] = jnp.ones(CHANNELS)
    close(model(x), before, 1e-5)
    with pytest.raises(ValueError, match=f"NnxNet holds no {kind} layer: nothing to revert"):
        revert(model)


@pytest.mark.parametrize("preserve", [True, False])
def test_equinox_reverts_a_copy(kind, preserve):
    ours, convert, revert = of(mixlayers.equinox, kind)
    model, state = eqx.nn.make_with_state(EquinoxNet)()
    x = jnp.asarray(features(), "float32")

    def run(model):
        model = eqx.nn.inference_mode(model)
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)[0]

    converted = convert(model, preserve_output=preserve)
    back = revert(converted, preserve_output=preserve)
    assert type(back.norms[0]) is type(back.shortcut) is eqx.nn.BatchNorm
    assert type(converted.norms[0]) is ours
    assert jax.tree.structure(back) == jax.tree.structure(model)
    close(run(back), run(model), 1e-5)
    with pytest.raises(ValueError, match=f"holds no {kind} layer"):
        revert(back)


@pytest.mark.parametrize("library", ["nnx", "linen", "equinox"])
def test_weight_decay_leaves_the_attention_alone(library):
    """A step of nothing but decay: with no gradient, what decays shrinks."""
    face, x = getattr(mixlayers, library), last(features()).astype("f")
    if library == "nnx":
        params = nnx.state(mixlayers.nnx.convert_iebn(NnxNet()), nnx.Param)
        plain = nnx.state(NnxNet(), nnx.Param)
    elif library == "linen":
        params = LinenNet().init(jax.random.key(0), x)["params"]
        plain = {"dense": {"kernel": jnp.ones(3)}}
    else:
        plain = eqx.filter(eqx.nn.make_with_state(EquinoxNet)()[0], eqx.is_inexact_array)
        params = mixlayers.equinox.convert_iebn(plain)
    optimizer = optax.add_decayed_weights(0.1, mask=face.iebn_decay_mask)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    kept, decayed = 0, 0
    for (path, update), value in zip(
        jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(params), strict=True
    ):
        attention = "readjust" in jax.tree_util.keystr(path)
        np.testing.assert_allclose(update, 0.0 if attention else 0.1 * value, rtol=1e-6)
        kept, decayed = kept + attention, decayed + (not attention)
    assert kept and kept % 2 == 0 and decayed
    with pytest.raises(ValueError, match="the parameters hold no IEBN's"):
        face.iebn_decay_mask(plain)


def test_statistics_of_averaged_weights_are_made_anew():
    model = mixlayers.nnx.convert_iebn(NnxNet(), skip="shortcut")
    batches = [last(features(seed)).astype("f") for seed in range(3)]
    momentum = model.shortcut.momentum
    model.eval()
    mixlayers.nnx.update_bn([(batch, None) for batch in batches], model)
    stems = [np.asarray(model.stem(batch), np.float64) for batch in batches]
    for norm in (model.shortcut, model.norms[0]):
        close(norm.mean[...], np.mean([stem.mean((0, 1, 2)) for stem in stems], 0), 1e-5)
        close(norm.var[...], np.mean([stem.var((0, 1, 2)) for stem in stems], 0), 1e-5)
        assert norm.momentum == momentum and norm.use_running_average
    before = model.shortcut.mean[...]
    mixlayers.nnx.update_bn([], model)
    assert (model.shortcut.mean[...] == before).all()


def trained_nnx(seed):
    """A converted model and a state of its own."""
    model = mixlayers.nnx.convert_iebn(NnxNet())
    model.norms[0].weight_readjust[...] = jnp.full(CHANNELS, 0.1 * seed)
    model(last(features(seed)).astype("f"))
    return model


@pytest.mark.parametrize("form", ["orbax", "flax.serialization"])
def test_nnx_checkpoints(form, tmp_path):
    model, fresh = trained_nnx(1), trained_nnx(2)
    state = nnx.to_pure_dict(nnx.state(model))
    if form == "orbax":
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "state", state)
            checkpointer.wait_until_finished()
            loaded = checkpointer.restore(tmp_path / "state", nnx.to_pure_dict(nnx.state(fresh)))
    else:
        loaded = flax.serialization.from_bytes(
            nnx.to_pure_dict(nnx.state(fresh)), flax.serialization.to_bytes(state)
        )
    graph, own = nnx.split(fresh)
    nnx.replace_by_pure_dict(own, loaded)
    fresh = nnx.merge(graph, own)
    model.eval()
    fresh.eval()
    x = last(features()).astype("f")
    np.testing.assert_array_equal(fresh(x), model(x))
    assert (fresh.norms[0].weight_readjust[...] == np.float32(0.1)).all()


def test_linen_checkpoints():
    x = last(features()).astype("f")
    variables, fresh = (LinenNet().init(jax.random.key(seed), x) for seed in (0, 1))
    variables["params"]["norm"]["weight_readjust"] += 0.3
    loaded = flax.serialization.from_bytes(fresh, flax.serialization.to_bytes(variables))
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, variables))
    assert {*loaded["params"]["norm"]} == {"scale", "bias", "weight_readjust", "bias_readjust"}


def test_equinox_checkpoints(tmp_path):
    x = jnp.asarray(features(), "float32")

    def made():
        model, state = eqx.nn.make_with_state(EquinoxNet)()
        return mixlayers.equinox.convert_iebn(model), state

    model, state = made()
    model = eqx.tree_at(lambda net: net.norms[0].bias_readjust, model, jnp.full(CHANNELS, 0.4))
    run = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    _, state = run(x, state)
    eqx.tree_serialise_leaves(tmp_path / "model.eqx", (model, state))
    loaded, memory = eqx.tree_deserialise_leaves(tmp_path / "model.eqx", made())
    assert (loaded.norms[0].bias_readjust == np.float32(0.4)).all()
    for norm, other in zip(loaded.norms, model.norms, strict=True):
        for ours, theirs in zip(
            memory.get(norm.batch_state_index), state.get(other.batch_state_index), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
