"""Which axis is the samples': inside of jax.vmap, beside others that are as long, and where it is not the first."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mixlayers.equinox
import mixlayers.jax
import mixlayers.nnx
from mixlayers import ManifoldMixup, MixingError
from mixlayers._core.audit.found import NOT_FIRST, NOT_TOLD

SIZE = 6
"""Samples, and tokens too where the two could be taken for each other."""


def tokens(length):
    return np.random.default_rng(0).standard_normal((SIZE, length, 5), dtype=np.float32)


def dense(layer, x):
    return jnp.einsum("...d,hd->...h", x, layer.weight) + layer.bias


class OfOne(eqx.Module):
    """A sample's tokens (T, 5), to each of which the first layer is mapped."""

    first: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        first, head = jax.random.split(key)
        self.first, self.head = eqx.nn.Linear(5, 7, key=first), eqx.nn.Linear(7, 3, key=head)

    def __call__(self, x):
        return self.head(jnp.tanh(jax.vmap(self.first)(x)).mean(0))


@pytest.mark.parametrize("length", [4, SIZE])
@pytest.mark.parametrize("place", ["first", "input"])
@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_layer_mapped_over_tokens_mixes_samples(length, place, jit):
    model, x, y = OfOne(jax.random.key(0)), tokens(length), np.arange(SIZE) % 3
    mixer = mixlayers.equinox.Mixer(model, ManifoldMixup(), [place], example=x)
    plan = mixer.plan(SIZE)

    def mixed(h, here):
        return plan.lam * h + (1 - plan.lam) * h[plan.perm] if here == place else h

    def by_hand(model):
        h = mixed(dense(model.first, mixed(x, "input")), "first")
        return (dense(model.head, jnp.tanh(h).mean(1)) ** 2).mean()

    @jit
    def loss(model):
        output, target = jax.vmap(mixer.mixed(model, plan))(x), mixer.target(y, plan)
        return target.blend(lambda y: (output**2).mean(1)).mean()

    (value, gradients), expected = jax.value_and_grad(loss)(model), jax.value_and_grad(by_hand)(model)
    assert np.allclose(value, expected[0], atol=1e-6)
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected[1]), strict=True):
        assert np.allclose(one, other, atol=1e-6)


def test_a_model_mapped_over_models_outside_mixes_samples():
    x, y = tokens(SIZE), np.arange(SIZE) % 3
    models = eqx.filter_vmap(OfOne)(jax.random.split(jax.random.key(0), SIZE))
    one = jax.tree.map(lambda leaf: leaf[2], models)
    mixer = mixlayers.equinox.Mixer(one, ManifoldMixup(), ["first"], example=x)
    plan = mixer.plan(SIZE)
    outputs = eqx.filter_vmap(lambda model: jax.vmap(mixer.mixed(model, plan))(x))(models)
    alone = jax.vmap(mixer.mixed(one, plan))(x)
    mixer.target(y, plan).blend(lambda y: y * 1.0)
    assert np.allclose(outputs[2], alone, atol=1e-6)


class Axes(nnx.Module):
    """Layers that see a batch as it is, time first, one sample of it, and once for each of some heads."""

    def __init__(self, rngs):
        def linear(inner):
            return nnx.Linear(inner, 7, rngs=rngs)

        self.whole, self.late, self.alone, self.headed, self.head = (linear(n) for n in (5, 7, 7, 7, 7))

    def __call__(self, x):
        x = jnp.tanh(self.whole(x))
        x = self.late(x.swapaxes(0, 1)).swapaxes(0, 1)
        x = jax.vmap(self.alone)(x)
        x = jax.vmap(lambda weight: jnp.tanh(self.headed(x * weight)))(jnp.arange(1.0, 1 + x.shape[1])).sum(0)
        return self.head(x.mean(1))


def test_an_axis_as_long_as_there_are_samples_is_not_taken_for_theirs():
    report = mixlayers.nnx.audit(Axes(nnx.Rngs(0)), tokens(SIZE))
    reasons = {point.name: point.reason for point in report}
    assert reasons == {"whole": "", "late": NOT_FIRST, "alone": NOT_FIRST, "headed": "", "head": ""}
    assert report["late"].shape is None
    other = mixlayers.nnx.audit(Axes(nnx.Rngs(0)), tokens(4))
    assert [point.true for point in other] == [point.true for point in report]
    with pytest.raises(ValueError, match=r"'late' cannot be mixed .its first axis is not the samples'"):
        mixlayers.nnx.Mixer(Axes(nnx.Rngs(0)), layers=["late"], example=tokens(SIZE))


def test_a_model_for_one_number_of_samples_tells_the_axis_by_another_example():
    def model(x, plan):
        x = mixlayers.jax.blend(x + np.ones((SIZE, 1, 1)), plan, "early")  # 6 samples, and no others
        return mixlayers.jax.blend(x.mean(1), plan, "late")

    reasons = {point.name: point.reason for point in mixlayers.jax.audit(model, tokens(SIZE))}
    assert reasons == {"early": NOT_TOLD, "late": ""}
    assert all(point.true for point in mixlayers.jax.audit(model, tokens(4)))


def test_padding_masks_are_as_many_as_the_samples_that_are_tried():
    def model(x, mask, plan):
        return mixlayers.jax.blend(x * mask[:, :, None], plan, "early").sum(1)

    example = {"x": tokens(SIZE), "mask": np.ones((SIZE, SIZE), np.float32)}
    assert mixlayers.jax.Mixer(model, ManifoldMixup(), example=example, mask="mask").places == ("early",)


def function(weights, x, plan=None):
    h = mixlayers.jax.blend(jnp.tanh(x @ weights[0]), plan, "hidden")
    return (h @ weights[1]).mean(-2)


@pytest.mark.parametrize("options", [{}, {"one_compilation": True}], ids=str)
@pytest.mark.parametrize("place", ["hidden", "input"])
def test_a_model_that_is_mapped_over_samples_after_its_audit_is_refused(options, place):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype("f") for shape in ((5, 7), (7, 3))]

    def model(x, plan):
        return function(weights, mixlayers.jax.blend(x, plan, "input"), plan)

    x = tokens(SIZE)
    mixer = mixlayers.jax.Mixer(model, ManifoldMixup(), [place], example=x, **options)
    plan = mixer.plan(SIZE)
    with pytest.raises(MixingError, match=r"had 3 axes .* not inside of a jax.vmap over its samples"):
        jax.vmap(lambda x: model(x, plan))(x)
    model(x, plan)


def test_plans_of_their_own_for_models_that_are_trained_side_by_side():
    """By vmap over weights and plans, with labels that all have in common."""
    rng, x, y = np.random.default_rng(0), tokens(4), np.arange(SIZE) % 3
    weights = [rng.normal(size=shape).astype("f") for shape in ((3, 5, 7), (3, 7, 3))]
    mixer = mixlayers.jax.Mixer(
        lambda x, plan: function([w[0] for w in weights], x, plan), ManifoldMixup(), example=x
    )

    def loss(weights, plan):
        return mixlayers.jax.cross_entropy(function(weights, x, plan), mixer.target(y, plan))

    plans = [mixer.plan(SIZE) for _ in range(3)]
    values, gradients = jax.vmap(jax.value_and_grad(loss))(weights, mixlayers.jax.stacked(plans))
    for at, plan in enumerate(plans):
        value, gradient = jax.value_and_grad(loss)([w[at] for w in weights], plan)
        assert np.allclose(values[at], value, atol=1e-6)
        assert np.allclose(gradients[0][at], gradient[0], atol=1e-6)
