"""RBN in JAX's libraries: against the NumPy reference, and each library's own BatchNorm."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import PartitionSpec

import mixlayers.equinox
import mixlayers.linen
import mixlayers.nnx
from tests.jax.norms import CHANNELS, LIBRARIES, arrays, close, features, last, values
from tests.support.reference_iebn import running_statistics
from tests.support.reference_rbn import NAMES, rbn, recentred, slopes


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return LIBRARIES[request.param]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-12)])
def test_equals_the_reference(lib, dtype, tolerance, training):
    parameters, statistics = values(NAMES)
    x, gradient = features(), features(2)
    kept = {} if training else dict(zip(("mean", "var"), statistics, strict=True))
    vectors = [parameters[name] for name in NAMES]
    with jax.enable_x64(dtype == "float64"):
        given = arrays(dtype, parameters, statistics, x)

        def loss(parameters, x):
            y, new = lib.run(parameters, given[1], x, training, kind="RBN")
            return (y * gradient.astype(dtype)).sum(), (y, new)

        found, (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(given[0], given[2])
        assert y.dtype == dtype
        close(y, rbn(x, *vectors, **kept), tolerance)
        on_x, *expected = slopes(partial(rbn, **kept), gradient, x, vectors)
        close(found[1], on_x, 2 * tolerance)
        for name, wanted in zip(NAMES, expected, strict=True):
            close(found[0][name], wanted, 2 * tolerance)
        moved = recentred(x, parameters["weight_recenter"])
        after = running_statistics(moved, *statistics, unbiased=False) if training else statistics
        for one, other in zip(new, after, strict=True):
            close(one, other, tolerance)


@pytest.mark.parametrize("lib", ["nnx", "linen"], indirect=True)
def test_devices_of_an_axis_normalise_together(lib):
    given, statistics, x = arrays("float32", *values(NAMES), features())
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = PartitionSpec("devices"), PartitionSpec()
    places = {"in_specs": (whole, whole, split), "out_specs": (split, whole), "check_vma": False}

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, **places)
    def run(given, statistics, x):
        return lib.run(given, statistics, x, True, kind="RBN", axis_name="devices")

    alone = jax.tree.leaves(lib.run(given, statistics, x, True, kind="RBN"))
    for one, other in zip(jax.tree.leaves(run(given, statistics, x)), alone, strict=True):
        close(one, other, 2e-6)


def test_half_precision_stays_what_batchnorm_makes_of_it(lib):
    options = {"dtype": jnp.bfloat16}
    parameters, x = arrays("bfloat16", values(NAMES)[0], features())
    statistics = [jnp.ones(CHANNELS, "bfloat16" if lib.name == "equinox" else "float32")] * 2
    y, _ = lib.run(parameters, statistics, x, True, kind="RBN", **options)
    plain, _ = lib.run(parameters, statistics, x, True, kind="BatchNorm", **options)
    assert y.dtype == plain.dtype == jnp.bfloat16
    rounded = [np.asarray(parameters[name], "f8") for name in NAMES]
    close(np.asarray(y, "f8"), rbn(np.asarray(x, "f8"), *rounded), 0.02)


@pytest.mark.parametrize("lib", ["nnx", "linen"], indirect=True)
def test_masked_positions_count_neither_for_statistics_nor_for_the_means_over_space(lib):
    """A batch padded to twice its width is the batch."""
    parameters, _, x = arrays("float32", *values(NAMES), last(features()))
    padded = jnp.concatenate((x, 100 * jnp.ones_like(x)), 2)
    mask = jnp.arange(padded.shape[2])[:, None] < x.shape[2]
    mask = jnp.broadcast_to(mask, (*padded.shape[:-1], 1))
    learned = {name: vector for name, vector in parameters.items() if "re" in name}
    if lib.name == "nnx":
        call = mixlayers.nnx.RBN(CHANNELS, rngs=nnx.Rngs(0))
        for name, vector in learned.items():
            getattr(call, name)[...] = vector
    else:
        layer = mixlayers.linen.RBN(use_running_average=False)
        variables = layer.init(jax.random.key(0), x)
        variables["params"] |= learned

        def call(x, mask=None):
            return layer.apply(variables, x, mask=mask, mutable=["batch_stats"])[0]

    close(call(padded, mask=mask)[:, :, : x.shape[2]], call(x), 2e-6)


def test_linens_parameters_and_statistics_are_batchnorms_and_three_more():
    x = jnp.ones((2, 4))
    theirs, own = (
        kind(use_running_average=False).init(jax.random.key(0), x)
        for kind in (nn.BatchNorm, mixlayers.linen.RBN)
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, own["batch_stats"], theirs["batch_stats"]))
    added = own["params"].keys() - theirs["params"].keys()
    assert added == {"weight_readjust", "bias_readjust", "weight_recenter"}


@pytest.mark.parametrize("preserve", [True, False])
def test_nnx_converts_in_place(preserve):
    norm = partial(nnx.BatchNorm, CHANNELS, rngs=nnx.Rngs(0))
    model, x = nnx.Sequential(norm(), nnx.relu, norm()), last(jnp.asarray(features(), "float32"))
    model(x)
    model.eval()
    before, held, statistics = model(x), model.layers[2], model.layers[2].var[...]
    assert mixlayers.nnx.convert_rbn(model, skip="layers.0", preserve_output=preserve) is model
    assert [type(model.layers[i]) for i in (0, 2)] == [nnx.BatchNorm, mixlayers.nnx.RBN]
    assert model.layers[2] is held and (held.var[...] == statistics).all() and held.use_running_average
    assert np.allclose(model(x), before, atol=1e-5) == preserve
    model.train()
    gradients = nnx.jit(nnx.grad(lambda model, x: (model(x) ** 3).sum()))(model, x)
    for name in ("weight_readjust", "bias_readjust", "weight_recenter"):
        assert jnp.abs(getattr(gradients.layers[2], name)[...]).max() > 0


class EquinoxNet(eqx.Module):
    norms: list

    def __init__(self):
        self.norms = [eqx.nn.BatchNorm(CHANNELS, "batch", mode="batch") for _ in range(2)]

    def __call__(self, x, state):
        y, state = self.norms[0](x, state)
        return self.norms[1](jax.nn.relu(y), state)


@pytest.mark.parametrize("preserve", [True, False])
def test_equinox_converts_a_copy_that_shares_the_state(preserve):
    model, state = eqx.nn.make_with_state(EquinoxNet)()
    x = jnp.asarray(features(), "float32")

    @eqx.filter_jit
    def run(model, state):
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    _, state = run(model, state)
    before, _ = run(eqx.nn.inference_mode(model), state)
    new = mixlayers.equinox.convert_rbn(model, skip="norms.0", preserve_output=preserve)
    assert [type(norm) for norm in new.norms] == [eqx.nn.BatchNorm, mixlayers.equinox.RBN]
    assert type(model.norms[1]) is eqx.nn.BatchNorm
    after, _ = run(eqx.nn.inference_mode(new), state)
    assert np.allclose(after, before, atol=1e-5) == preserve
    gradients = eqx.filter_grad(lambda model: (run(model, state)[0] ** 3).sum())(new)
    assert jnp.abs(gradients.norms[1].weight_recenter).max() > 0
