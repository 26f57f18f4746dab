"""Layers that return several arrays: the plan mixes all of them, in each of JAX's libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from mixlayers import ManifoldMixup
from tests.jax.jax_libraries import Equinox, Linen, Nnx, batch, same

LIBRARIES = [Nnx(), Linen(), Equinox()]
PLACE = "layer1"


def gated(x, h):
    """What a layer passes on, and a gate for it."""
    return x + h, jax.nn.sigmoid(h)


def opened(both):
    h, gate = both
    return h * gate


class NnxGated(Nnx.Block):
    def __call__(self, x):
        x = opened(x) if isinstance(x, tuple) else x
        return gated(x, self.conv(x))


class LinenGated(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = opened(x) if isinstance(x, tuple) else x
        return gated(x, nn.Conv(4, (3, 3), name="conv")(x))


class EquinoxGated(Equinox.Block):
    def __call__(self, x):
        x = opened(x) if isinstance(x, tuple) else x
        return gated(x, self.conv(x))


def through(self, x):
    """Of Equinox a sample (C, H, W) comes here, of the others a batch (N, H, W, C): both have space at 1 and 2."""
    for layer in (self.stem, self.layer1, self.layer2, self.layer3):
        x = layer(x)
    return self.head(opened(x).mean((1, 2)))


class NnxNet(Nnx.Net):
    __call__ = through


class LinenNet(Linen.Net):
    __call__ = through


class EquinoxNet(Equinox.Net):
    __call__ = through


def network(lib):
    if lib.name == "nnx":
        return NnxNet(nnx.Rngs(0), NnxGated)
    if lib.name == "equinox":
        return EquinoxNet(jax.random.key(0), EquinoxGated)
    lib.net = LinenNet(block=LinenGated)
    return lib.net.init(jax.random.key(0), batch()[0])


@pytest.mark.parametrize("lib", LIBRARIES, ids=lambda lib: lib.name)
def test_all_arrays_of_a_layer_are_mixed(lib):
    model, (x, y) = network(lib), batch()
    found = {point.name: point for point in lib.audit(model, x).points}
    assert found[PLACE].true, found[PLACE].reason
    mixer = lib.mixer(model, ManifoldMixup(), [PLACE])
    plan = mixer.plan(len(y))
    output, target = lib.forward(mixer, model, lib.images(x), y, plan)
    assert float(plan.lam) < 1

    h = lib.images(x)
    for name, stage in lib.stages(model)[:-1]:
        h = stage(h)
        if name == PLACE:
            h = tuple(plan.lam * part + (1 - plan.lam) * part[plan.perm] for part in h)
    head = lib.stages(model)[-1][1]
    same(output, head(opened(h)))
    np.testing.assert_allclose(jnp.asarray(target.s), 1 - plan.lam, rtol=1e-6)
