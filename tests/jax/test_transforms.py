"""Plans under JAX's transformations: remat, scan, vmap, meshes of devices, donated buffers, half precision, aux."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import mixlayers.jax
from mixlayers import CutMix, ManifoldMixup, MixingError, Mixup, PatchUp
from mixlayers._core.plan.plan import Blend
from mixlayers.jax import blend, cross_entropy, stacked
from tests.jax.jax_libraries import PLACES, Equinox, Function, Linen, Nnx, batch, by_hand, same


def loss_of(lib, mixer, model, x, y, plan):
    logits, target = lib.forward(mixer, model, x, y, plan)
    return cross_entropy(logits, target)


class Checkpointed(eqx.Module):
    inner: Equinox.Block

    def __init__(self, key):
        self.inner = Equinox.Block(key)

    def __call__(self, x):
        return eqx.filter_checkpoint(self.inner)(x)


class Remat(Nnx.Block):
    @nnx.remat
    def __call__(self, x):
        return nnx.relu(x + self.conv(x))


class Compiled(Nnx.Block):
    @nnx.jit
    def __call__(self, x):
        return nnx.relu(x + self.conv(x))


@pytest.mark.parametrize(
    ("lib", "block"),
    [
        (Nnx(), Remat),
        (Nnx(), Compiled),
        (Linen(), nn.remat(Linen.Block)),
        (Linen(), nn.jit(Linen.Block)),
        (Equinox(), Checkpointed),
    ],
    ids=["nnx.remat", "nnx.jit", "nn.remat", "nn.jit", "filter_checkpoint"],
)
def test_recomputed_and_compiled_blocks_mix_alike(lib, block):
    x, y = batch()
    x = lib.images(x)
    plain, changed = lib.model(), lib.model(block=block)
    changed = jax.tree.unflatten(jax.tree.structure(changed), jax.tree.leaves(plain))
    found = []
    for model in (plain, changed):
        place = "layer2.inner" if block is Checkpointed and model is changed else "layer2"
        if lib.name == "linen":
            lib.net = lib.Net(block=block if model is changed else None)
        mixer = lib.mixer(model, PatchUp("soft", block_size=2), [place], seed=2)
        plan = mixer.plan(6)
        found.append(
            jax.jit(partial(lib.gradients, partial(loss_of, lib, mixer, x=x, y=y, plan=plan)))(model)
        )
    same(found[1], found[0])


def test_a_scan_over_steps():
    lib, (x, y) = Function(), batch()
    model = lib.model()
    mixer = lib.mixer(model, PatchUp("soft", block_size=2), PLACES, seed=1, one_compilation=True)
    plans = [mixer.plan(6) for _ in range(4)]
    xs, ys = np.stack([x + at for at in range(4)]), np.stack([np.roll(y, at) for at in range(4)])

    def step(model, given):
        value, gradients = jax.value_and_grad(lambda model: loss_of(lib, mixer, model, *given))(model)
        return jax.tree.map(lambda p, g: p - 0.1 * g, model, gradients), value

    trained, values = jax.jit(partial(jax.lax.scan, step))(model, (xs, ys, stacked(plans)))
    for at, plan in enumerate(plans):
        model, value = jax.jit(step)(model, (xs[at], ys[at], plan))
        np.testing.assert_allclose(values[at], value, rtol=1e-6)
    same(trained, model)


def test_an_ensemble_under_vmap_shares_the_plan():
    lib, (x, y) = Function(), batch()
    models = [jax.tree.map(lambda p, at=at: p * (1 + at), lib.model()) for at in range(3)]
    mixer = lib.mixer(models[0], layers=["layer2"])
    plan = mixer.plan(6)
    together = jax.vmap(lambda model: loss_of(lib, mixer, model, x, y, plan))(stacked(models))
    alone = [loss_of(lib, mixer, model, x, y, plan) for model in models]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-6)


def test_second_derivatives_and_forward_mode():
    (x, _), plan = batch(), Function().mixer(Function().model(), layers=["layer1"]).plan(6)
    how = plan.blend(x.shape)

    def squares(x):
        return (blend(x, plan) ** 3).sum()

    def expected(x):
        return ((how.lam * x + (1 - how.lam) * x[how.perm]) ** 3).sum()

    for f, tolerance in ((jax.grad, 1e-5), (lambda f: jax.grad(lambda x: (jax.grad(f)(x) ** 2).sum()), 1e-4)):
        np.testing.assert_allclose(f(squares)(x), f(expected)(x), rtol=tolerance, atol=tolerance)
    with pytest.raises(TypeError, match="forward-mode autodiff"):
        jax.jvp(squares, (x,), (x,))


METHODS = [ManifoldMixup(), Mixup(lam_per="sample"), PatchUp("hard", block_size=2), CutMix(lam_per="sample")]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_groups_mix_within_themselves_and_nothing_is_sent(method):
    """Four devices that are one: a batch in four parts, under jit with shardings and under shard_map."""
    lib, (x, y) = Function(), batch(16)
    model = lib.model()
    mixer = lib.mixer(model, method, ["layer2"] if method.hidden else "auto", example=x)
    plan = mixer.plan(16, groups=4)
    assert plan.perm.shape == (4, 4)
    whole = (np.arange(4)[:, None] * 4 + plan.perm).reshape(-1)
    place = plan.place
    flat = Blend(whole, plan.lam, plan.act.mask, None, plan.s)
    logits = by_hand(lib, model, x, flat, place)
    entropy = optax.softmax_cross_entropy_with_integer_labels
    expected = ((1 - plan.s) * entropy(logits, y) + plan.s * entropy(logits, y[whole])).mean()

    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split, everywhere = PartitionSpec("data"), PartitionSpec()
    specs = plan.specs("data")

    def shardings(tree):
        return jax.tree.map(lambda spec: NamedSharding(mesh, spec), tree)

    def loss(model, x, y, plan):
        return loss_of(lib, mixer, model, x, y, plan)

    args = (model, x, y, plan)
    placed = jax.device_put(args, shardings((jax.tree.map(lambda _: everywhere, model), split, split, specs)))
    compiled = jax.jit(loss).lower(*placed).compile()
    np.testing.assert_allclose(compiled(*placed), expected, rtol=1e-5)
    assert "all-gather" not in compiled.as_text() and "collective-permute" not in compiled.as_text()

    def part(*args):
        return jax.lax.pmean(loss(*args), "data")

    mapped = jax.shard_map(part, mesh=mesh, in_specs=(everywhere, split, split, specs), out_specs=everywhere)
    np.testing.assert_allclose(jax.jit(mapped)(*args), expected, rtol=1e-5)


def test_a_plan_for_the_whole_batch_is_refused_in_a_part_of_it():
    """Its partners lie on other devices: it is for jit with shardings."""
    lib, (x, y) = Function(), batch(16)
    model = lib.model()
    mixer = lib.mixer(model, layers=["layer1"], example=x)
    plan, split = mixer.plan(16), PartitionSpec("data")
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = plan.specs("data")

    def loss(x, y, plan):
        return loss_of(lib, mixer, model, x, y, plan)

    args = (x, y, plan)
    placed = jax.device_put(args, jax.tree.map(lambda spec: NamedSharding(mesh, spec), (split, split, specs)))
    np.testing.assert_allclose(jax.jit(loss)(*placed), loss(*args), rtol=1e-5)
    own = jax.shard_map(loss, mesh=mesh, in_specs=(split, split, specs), out_specs=PartitionSpec())
    with pytest.raises(MixingError, match="groups="):
        own(*args)


def test_groups_follow_their_own_labels():
    lib, (x, _) = Function(), batch(16)
    mixer = lib.mixer(lib.model(), Mixup(pairs="different_class"), example=x)
    y = np.tile([0, 1, 0, 1, 2, 2, 3, 3], 2)
    for _ in range(5):
        perm = mixer.plan(16, labels=y, groups=4).perm
        own = y.reshape(4, 4)
        assert (own != np.take_along_axis(own, perm, 1)).all()
        assert {tuple(each) for each in np.sort(perm, 1)} == {(0, 1, 2, 3)}


def test_one_plan_a_device_under_pmap():
    lib, (x, y) = Function(), batch(16)
    model = lib.model()
    mixer = lib.mixer(model, layers=["layer1"], example=x)
    plans = [mixer.plan(4) for _ in range(4)]
    losses = jax.pmap(lambda x, y, plan: loss_of(lib, mixer, model, x, y, plan))(
        x.reshape(4, 4, 6, 6, 3), y.reshape(4, 4), stacked(plans)
    )
    for at, plan in enumerate(plans):
        rows = slice(4 * at, 4 * at + 4)
        np.testing.assert_allclose(losses[at], loss_of(lib, mixer, model, x[rows], y[rows], plan), rtol=1e-5)


def test_buffers_may_be_donated():
    lib, (x, y) = Function(), batch()
    model = jax.device_put(lib.model())
    mixer = lib.mixer(model, layers=["layer1"])

    @partial(jax.jit, donate_argnums=0)
    def step(model, x, y, plan):
        gradients = jax.grad(lambda model: loss_of(lib, mixer, model, x, y, plan))(model)
        return jax.tree.map(lambda p, g: p - g, model, gradients)

    again = lib.model()
    for _ in range(2):
        plan = mixer.plan(6)
        gradients = jax.grad(lambda model, plan=plan: loss_of(lib, mixer, model, x, y, plan))(again)
        again = jax.tree.map(lambda p, g: p - g, again, gradients)
        model = step(model, x, y, plan)
    same(model, again)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "complex64"])
def test_dtypes_stay(kind):
    x = jnp.asarray(batch()[0]).astype(kind)
    for method in (Mixup(lam_per="sample"), CutMix()):
        mixed, _ = mixlayers.jax.mix(x, np.arange(6), method, step=0)
        plan = method.plan(step=0, batch_size=6)
        how = plan.blend(x.shape, -1)
        lam = np.asarray(how.lam).reshape(-1, 1, 1, 1)
        wide = np.asarray(x.astype("complex64" if kind == "complex64" else "float32"))
        expected = np.where(
            True if how.mask is None else how.mask, lam * wide + (1 - lam) * wide[how.perm], wide
        )
        assert mixed.dtype == x.dtype
        tolerance = {"bfloat16": 2e-2, "float16": 2e-3, "complex64": 1e-6}[kind]
        np.testing.assert_allclose(np.asarray(mixed, wide.dtype), expected, rtol=tolerance, atol=tolerance)

        def loss(x, method=method):
            return jnp.abs(mixlayers.jax.mix(x, np.arange(6), method, step=0)[0]).astype("float32").sum()

        gradient = jax.grad(loss)(x)
        assert gradient.dtype == x.dtype


def test_a_target_is_a_pytree():
    lib, (x, y) = Function(), batch()
    model = lib.model()
    traced = []

    @jax.jit
    def loss(logits, target):
        traced.append(target.layer)
        return cross_entropy(logits, target), target

    for step in range(4):
        mixed, target = mixlayers.jax.mix(x, y, CutMix(), step=step)
        logits = lib.net(model, mixed)
        value, same_target = loss(logits, target)
        np.testing.assert_allclose(value, cross_entropy(logits, target), rtol=1e-6)
        np.testing.assert_allclose(same_target.s, target.s, rtol=1e-6)
    assert traced == ["input"], "a new plan is no cause to compile again"
    mixer = lib.mixer(model, layers=["layer1"])

    def with_target(model, plan):
        logits, target = lib.forward(mixer, model, x, y, plan)
        return cross_entropy(logits, target), (logits, target)

    (value, (logits, target)), _ = jax.value_and_grad(with_target, has_aux=True)(model, mixer.plan(6))
    np.testing.assert_allclose(cross_entropy(logits, target), value, rtol=1e-6)
    assert target.mixed and target.layer == "layer1" and mixer.step == 1
    mixer.plan(6)


def test_labels_of_pixels_follow_a_mask_inside_jit():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 8, 8, 3)).astype(np.float32), rng.integers(4, size=(6, 4, 4))
    logits = rng.normal(size=(6, 4, 4, 5)).astype(np.float32)
    mixer = mixlayers.jax.Mixer(lambda x, plan: blend(x, plan, "input"), CutMix(), example=x)
    plan = mixer.plan(6)
    inside = np.broadcast_to(plan.act.mask, (6, 8, 8, 1))[..., 0].reshape(6, 4, 2, 4, 2).mean((2, 4))
    entropy = optax.softmax_cross_entropy_with_integer_labels
    expected = (1 - inside) * entropy(logits, y) + inside * entropy(logits, y[plan.perm])

    @jax.jit
    def loss(logits, y, plan):
        target = mixer.target(y, plan)
        return cross_entropy(logits, target), target.blend(lambda y: entropy(logits, y), dense=True)

    mean, each = loss(logits, y, plan)
    np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, expected.mean(), rtol=1e-5)
