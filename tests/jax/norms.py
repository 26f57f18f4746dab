"""Norms of JAX's libraries, run alike: `LIBRARIES`."""

from importlib import import_module

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

CHANNELS = 5


def values(names, seed=0):
    """Random parameters by name, and a running mean and variance."""
    rng = np.random.default_rng(seed)
    vectors = {name: rng.standard_normal(CHANNELS) for name in names}
    return vectors, (rng.standard_normal(CHANNELS), 0.5 + rng.random(CHANNELS))


def features(seed=1, size=8):
    """(N, C, H, W)."""
    return np.random.default_rng(seed).standard_normal((size, CHANNELS, 4, 3)) * 1.5 + 0.7


def last(x):
    return jnp.moveaxis(x, 1, -1)


def first(x):
    return jnp.moveaxis(x, -1, 1)


def made(library, kind):
    """A class by its name: the library's own BatchNorm, or one of ours."""
    return (
        BATCH_NORMS[library] if kind == "BatchNorm" else getattr(import_module(f"mixlayers.{library}"), kind)
    )


class Nnx:
    """All three have `run(parameters, statistics, x, training)` -> output and new statistics; x is (N, C, ...)."""

    name = "nnx"

    def run(self, parameters, statistics, x, training, kind="IEBN", **options):
        layer = made("nnx", kind)(
            CHANNELS, momentum=0.9, rngs=nnx.Rngs(0), use_running_average=not training, **options
        )
        for name, vector in parameters.items():
            if hasattr(layer, ours := "scale" if name == "weight" else name):
                setattr(layer, ours, nnx.Param(vector))
        layer.mean, layer.var = (nnx.BatchStat(each) for each in statistics)
        y = layer(last(x))
        return first(y), (layer.mean[...], layer.var[...])


class Linen:
    name = "linen"

    def run(self, parameters, statistics, x, training, kind="IEBN", **options):
        layer = made("linen", kind)(momentum=0.9, use_running_average=not training, **options)
        params = {"scale" if name == "weight" else name: vector for name, vector in parameters.items()}
        if kind == "BatchNorm":
            params = {name: params[name] for name in ("scale", "bias")}
        variables = {
            "params": params,
            "batch_stats": dict(zip(("mean", "var"), statistics, strict=True)),
        }
        y, new = layer.apply(variables, last(x), mutable=["batch_stats"])
        return first(y), (new["batch_stats"]["mean"], new["batch_stats"]["var"])


class Equinox:
    name = "equinox"

    def run(self, parameters, statistics, x, training, kind="IEBN", axis_name=None, dtype=None):
        axes = "batch" if axis_name is None else ("batch", axis_name)
        layer, state = eqx.nn.make_with_state(made("equinox", kind))(
            CHANNELS, axes, momentum=0.9, mode="batch", inference=not training, dtype=dtype
        )
        for name, vector in parameters.items():
            if hasattr(layer, name):
                layer = eqx.tree_at(lambda layer, name=name: getattr(layer, name), layer, vector)
        state = state.set(layer.batch_state_index, tuple(statistics))
        y, state = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
        return y, state.get(layer.batch_state_index)


LIBRARIES = {"nnx": Nnx(), "linen": Linen(), "equinox": Equinox()}
BATCH_NORMS = {"nnx": nnx.BatchNorm, "linen": nn.BatchNorm, "equinox": eqx.nn.BatchNorm}


def arrays(dtype, *trees):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), trees)


def close(ours, theirs, tolerance):
    """Alike, by the largest value there is."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()))
