"""A model's arguments that are no features stay as they are, given by position too."""

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import mixlayers.equinox
import mixlayers.linen
import mixlayers.nnx
from mixlayers import Mixup

IMAGES = np.random.default_rng(0).standard_normal((6, 4, 4, 3), dtype=np.float32)
SCALES, LABELS = np.arange(6, dtype=np.float32), np.arange(6) % 3
OPTIONS = {"example": (IMAGES, SCALES), "keep": ["scale_factor"]}
METHOD = Mixup(pairs="derangement")


class OfNnx(nnx.Module):
    def __call__(self, x, scale_factor):
        return x.mean((1, 2)), scale_factor


class OfLinen(nn.Module):
    @nn.compact
    def __call__(self, x, scale_factor):
        return x.mean((1, 2)), scale_factor


class OfEquinox(eqx.Module):  # of one sample
    def __call__(self, x, scale_factor):
        return x.mean((0, 1)), scale_factor


def in_nnx():
    model = OfNnx()
    mixer = mixlayers.nnx.Mixer(model, METHOD, **OPTIONS)
    plan = mixer.plan(6)
    return plan, model(IMAGES, SCALES, target=LABELS, plan=plan)[0]


def in_linen():
    model = OfLinen()
    mixer = mixlayers.linen.Mixer(model, METHOD, **OPTIONS)
    plan = mixer.plan(6)
    variables = model.init(jax.random.key(0), IMAGES, SCALES)
    return plan, mixer.apply(variables, IMAGES, SCALES, target=LABELS, plan=plan)[0]


def in_equinox():
    model = OfEquinox()
    mixer = mixlayers.equinox.Mixer(model, METHOD, **OPTIONS)
    plan = mixer.plan(6)
    return plan, jax.vmap(mixer.mixed(model, plan))(IMAGES, SCALES)


@pytest.mark.parametrize("run", [in_nnx, in_linen, in_equinox])
def test_a_named_argument_is_kept_by_position_too(run):
    plan, (means, scales) = run()
    np.testing.assert_array_equal(scales, SCALES)
    lam, perm = plan.lam, plan.perm
    by_hand = lam * IMAGES + (1 - lam) * IMAGES[perm]
    np.testing.assert_allclose(means, by_hand.mean((1, 2)), atol=1e-5)
