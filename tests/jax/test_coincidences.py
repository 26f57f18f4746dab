"""Arrays beside a place's features that hold no samples, and are by chance as long as a batch."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlayers import ManifoldMixup
from mixlayers.jax import Mixer, blend

SIZES = st.integers(2, 4)  # few, so that samples and points are often as many


def bias(count):
    return jnp.asarray(np.random.default_rng(count).normal(size=(count, count)), jnp.float32)


def rest(h, beside):
    return (jax.nn.softmax(beside, -1) @ h).sum(1)


def model(x, plan=None):
    return rest(*blend((x * 2, bias(x.shape[1])), plan, "first"))


@settings(max_examples=25)
@given(
    example=st.tuples(SIZES, SIZES),
    steps=st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=2),
    alike=st.booleans(),
)
def test_what_a_place_holds_beside_its_features_is_not_mixed(example, steps, alike):
    """Whatever the sizes of the example and the batch, and where one compilation is for all places."""
    mixer = Mixer(
        model, ManifoldMixup(), "first", example=np.zeros((*example, 3), np.float32), one_compilation=alike
    )
    for size, count in steps:
        x = np.random.default_rng(size).normal(size=(size, count, 3)).astype(np.float32)
        plan = mixer.plan(size)
        found = jax.jit(model)(x, plan) if alike else model(x, plan)
        mixer.target(np.arange(size), plan).partner  # noqa: B018  # reading the partners uses the target
        mixed = 2 * (plan.lam * x + (1 - plan.lam) * x[plan.perm])
        np.testing.assert_allclose(found, rest(mixed, bias(count)), rtol=1e-4, atol=1e-5)
