"""IEBN in JAX's libraries: against the NumPy reference, PyTorch's layer, and each library's own BatchNorm."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx
from jax.sharding import PartitionSpec

import mixlayers.equinox
import mixlayers.linen
import mixlayers.nnx
from mixlayers.torch import IEBN2d
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics

CHANNELS = 5
NAMES = ("weight", "bias", "weight_readjust", "bias_readjust")


def values(seed=0):
    """Random parameters by name, and a running mean and variance."""
    rng = np.random.default_rng(seed)
    vectors = {name: rng.standard_normal(CHANNELS) for name in NAMES}
    return vectors, (rng.standard_normal(CHANNELS), 0.5 + rng.random(CHANNELS))


def features(seed=1, size=8):
    """(N, C, H, W)."""
    return np.random.default_rng(seed).standard_normal((size, CHANNELS, 4, 3)) * 1.5 + 0.7


def last(x):
    return jnp.moveaxis(x, 1, -1)


def first(x):
    return jnp.moveaxis(x, -1, 1)


class Nnx:
    """All three have `run(parameters, statistics, x, training)` -> output and new statistics; x is (N, C, ...)."""

    name = "nnx"

    def run(self, parameters, statistics, x, training, kind=mixlayers.nnx.IEBN, **options):
        layer = kind(CHANNELS, momentum=0.9, rngs=nnx.Rngs(0), use_running_average=not training, **options)
        for name, vector in parameters.items():
            if hasattr(layer, ours := "scale" if name == "weight" else name):
                setattr(layer, ours, nnx.Param(vector))
        layer.mean, layer.var = (nnx.BatchStat(each) for each in statistics)
        y = layer(last(x))
        return first(y), (layer.mean[...], layer.var[...])


class Linen:
    name = "linen"

    def run(self, parameters, statistics, x, training, kind=mixlayers.linen.IEBN, **options):
        layer = kind(momentum=0.9, use_running_average=not training, **options)
        params = {"scale" if name == "weight" else name: vector for name, vector in parameters.items()}
        if kind is nn.BatchNorm:
            params = {name: params[name] for name in ("scale", "bias")}
        variables = {
            "params": params,
            "batch_stats": dict(zip(("mean", "var"), statistics, strict=True)),
        }
        y, new = layer.apply(variables, last(x), mutable=["batch_stats"])
        return first(y), (new["batch_stats"]["mean"], new["batch_stats"]["var"])


class Equinox:
    name = "equinox"

    def run(
        self, parameters, statistics, x, training, kind=mixlayers.equinox.IEBN, axis_name=None, dtype=None
    ):
        axes = "batch" if axis_name is None else ("batch", axis_name)
        layer, state = eqx.nn.make_with_state(kind)(
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


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return LIBRARIES[request.param]


def arrays(dtype, *trees):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), trees)


def close(ours, theirs, tolerance):
    """Alike, by the largest value there is."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_equals_the_reference(lib, dtype, tolerance, training):
    parameters, statistics = values()
    x, gradient = features(), features(2)
    kept = {} if training else dict(zip(("mean", "var"), statistics, strict=True))
    vectors = [parameters[name] for name in NAMES]
    with jax.enable_x64(dtype == "float64"):
        given = arrays(dtype, parameters, statistics, x)

        def loss(parameters, x):
            y, new = lib.run(parameters, given[1], x, training)
            return (y * gradient.astype(dtype)).sum(), (y, new)

        found, (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(given[0], given[2])
        assert y.dtype == dtype
        close(y, iebn(x, *vectors, **kept), tolerance)
        expected = iebn_backward(gradient, x, *vectors, **kept)
        close(found[1], expected.x, tolerance)
        for name in NAMES:
            close(found[0][name], getattr(expected, name), tolerance)
        after = running_statistics(x, *statistics, unbiased=False) if training else statistics
        for one, other in zip(new, after, strict=True):
            close(one, other, tolerance)


def test_equals_pytorchs_layer_over_two_steps_and_after(lib):
    parameters, statistics = values()
    theirs = IEBN2d(CHANNELS)
    with torch.no_grad():
        for name, vector in parameters.items():
            getattr(theirs, name).copy_(torch.from_numpy(vector))
        theirs.running_mean.copy_(torch.from_numpy(statistics[0]))
        theirs.running_var.copy_(torch.from_numpy(statistics[1]))
    given, running = arrays("float32", parameters, statistics)
    biased = statistics[1]
    for seed in (1, 2):
        x = features(seed).astype("f")
        y, running = lib.run(given, running, jnp.asarray(x), True)
        close(y, theirs(torch.from_numpy(x)).detach().numpy(), 2e-6)
        close(running[0], theirs.running_mean.numpy(), 1e-6)
        biased = 0.9 * biased + 0.1 * x.var((0, 2, 3))  # PyTorch's is n / (n - 1) times that
        close(running[1], biased, 1e-6)
    with torch.no_grad():
        theirs.running_var.copy_(torch.from_numpy(biased))
    x = features(3).astype("f")
    y, after = lib.run(given, running, jnp.asarray(x), False)
    close(y, theirs.eval()(torch.from_numpy(x)).detach().numpy(), 2e-6)
    close(after[1], running[1], 0)


@pytest.mark.parametrize("lib", ["nnx", "linen"], indirect=True)
def test_devices_of_an_axis_normalise_together(lib):
    given, statistics, x = arrays("float32", *values(), features())
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = PartitionSpec("devices"), PartitionSpec()

    @jax.jit
    @partial(
        jax.shard_map, mesh=mesh, in_specs=(whole, whole, split), out_specs=(split, whole), check_vma=False
    )
    def run(given, statistics, x):
        return lib.run(given, statistics, x, True, axis_name="devices")

    for one, other in zip(
        jax.tree.leaves(run(given, statistics, x)),
        jax.tree.leaves(lib.run(given, statistics, x, True)),
        strict=True,
    ):
        close(one, other, 2e-6)


def test_equinox_normalises_together_over_several_axes():
    """Under vmap: `equinox.nn.State` refuses the new values of a layer that is made inside shard_map."""
    lib = LIBRARIES["equinox"]
    given, statistics, x = arrays("float32", *values(), features())
    parts = jax.vmap(
        partial(lib.run, given, statistics, training=True, axis_name="devices"), axis_name="devices"
    )
    y, new = parts(x.reshape(4, 2, *x.shape[1:]))
    whole, expected = lib.run(given, statistics, x, True)
    close(y.reshape(x.shape), whole, 2e-6)
    for one, other in zip(new, expected, strict=True):
        close(one, jnp.stack([other] * 4), 2e-6)


def test_half_precision_stays_what_batchnorm_makes_of_it(lib):
    options = {"dtype": jnp.bfloat16}
    parameters, x = arrays("bfloat16", values()[0], features())
    statistics = [jnp.ones(CHANNELS, "bfloat16" if lib.name == "equinox" else "float32")] * 2
    y, _ = lib.run(parameters, statistics, x, True, **options)
    plain, _ = lib.run(parameters, statistics, x, True, kind=BATCH_NORMS[lib.name], **options)
    assert y.dtype == plain.dtype == jnp.bfloat16
    rounded = [np.asarray(parameters[name], "f8") for name in NAMES]
    close(np.asarray(y, "f8"), iebn(np.asarray(x, "f8"), *rounded), 0.02)


@pytest.mark.parametrize("lib", ["nnx", "linen"], indirect=True)
def test_masked_positions_count_neither_for_statistics_nor_for_attention(lib):
    """A batch padded to twice its width is the batch; a sample of padding alone is finite."""
    parameters, _, x = arrays("float32", *values(), last(features()))
    padded = jnp.concatenate((x, 100 * jnp.ones_like(x)), 2)
    mask = jnp.arange(padded.shape[2])[:, None] < x.shape[2]
    mask = jnp.broadcast_to(mask, (*padded.shape[:-1], 1))
    if lib.name == "nnx":
        layer = mixlayers.nnx.IEBN(CHANNELS, rngs=nnx.Rngs(0))
        layer.weight_readjust[...] = parameters["weight_readjust"]
        call = layer
    else:
        layer = mixlayers.linen.IEBN(use_running_average=False)
        variables = layer.init(jax.random.key(0), x)
        variables["params"]["weight_readjust"] = parameters["weight_readjust"]

        def call(x, mask=None):
            return layer.apply(variables, x, mask=mask, mutable=["batch_stats"])[0]

    close(call(padded, mask=mask)[:, :, : x.shape[2]], call(x), 2e-6)
    assert jnp.isfinite(call(padded, mask=mask.at[0].set(False))).all()


def test_channels_along_the_samples_axis_are_refused():
    with pytest.raises(ValueError, match="axis 0 of an input"):
        mixlayers.nnx.IEBN(6, axis=0, rngs=nnx.Rngs(0))(jnp.ones((6, 4)))
