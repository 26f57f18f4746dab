"""IEBN and RBN in JAX's libraries: against the NumPy references, PyTorch's layers, and each library's own BatchNorm."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx
from jax.sharding import PartitionSpec

import mixlayers.linen
import mixlayers.nnx
import mixlayers.torch
from tests.jax.norms import CHANNELS, LIBRARIES, arrays, close, features, last, values
from tests.support.reference_iebn import running_statistics
from tests.support.reference_norms import REFERENCES


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return LIBRARIES[request.param]


@pytest.fixture(params=REFERENCES)
def kind(request):
    return request.param


def drawn(kind):
    """Random parameters by name, and running statistics."""
    return values(REFERENCES[kind].names)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-12)])
def test_equals_the_reference(lib, kind, dtype, tolerance, training):
    reference, (parameters, statistics) = REFERENCES[kind], drawn(kind)
    x, gradient, vectors = features(), features(2), [*parameters.values()]
    kept = {} if training else dict(zip(("mean", "var"), statistics, strict=True))
    with jax.enable_x64(dtype == "float64"):
        given = arrays(dtype, parameters, statistics, x)

        def loss(parameters, x):
            y, new = lib.run(parameters, given[1], x, training, kind=kind)
            return (y * gradient.astype(dtype)).sum(), (y, new)

        found, (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(given[0], given[2])
        assert y.dtype == dtype
        close(y, reference.output(x, *vectors, **kept), tolerance)
        expected, *slopes = reference.gradients(gradient, x, vectors, **kept)
        close(found[1], expected, 2 * tolerance)
        for name, slope in zip(reference.names, slopes, strict=True):
            close(found[0][name], slope, 2 * tolerance)
        seen = reference.normalised(x, vectors)
        after = running_statistics(seen, *statistics, unbiased=False) if training else statistics
        for one, other in zip(new, after, strict=True):
            close(one, other, tolerance)


def test_equals_pytorchs_layer_over_two_steps_and_after(lib, kind):
    parameters, statistics = drawn(kind)
    theirs = getattr(mixlayers.torch, f"{kind}2d")(CHANNELS)
    with torch.no_grad():
        for name, vector in parameters.items():
            getattr(theirs, name).copy_(torch.from_numpy(vector))
        theirs.running_mean.copy_(torch.from_numpy(statistics[0]))
        theirs.running_var.copy_(torch.from_numpy(statistics[1]))
    given, running = arrays("float32", parameters, statistics)
    biased = statistics[1]
    for seed in (1, 2):
        x = features(seed).astype("f")
        y, running = lib.run(given, running, jnp.asarray(x), True, kind=kind)
        close(y, theirs(torch.from_numpy(x)).detach().numpy(), 2e-6)
        close(running[0], theirs.running_mean.numpy(), 1e-6)
        seen = REFERENCES[kind].normalised(x, [*parameters.values()])
        biased = 0.9 * biased + 0.1 * seen.var((0, 2, 3))  # PyTorch's is n / (n - 1) times that
        close(running[1], biased, 1e-6)
    with torch.no_grad():
        theirs.running_var.copy_(torch.from_numpy(biased))
    x = features(3).astype("f")
    y, after = lib.run(given, running, jnp.asarray(x), False, kind=kind)
    close(y, theirs.eval()(torch.from_numpy(x)).detach().numpy(), 2e-6)
    close(after[1], running[1], 0)


@pytest.mark.parametrize("lib", ["nnx", "linen"], indirect=True)
def test_devices_of_an_axis_normalise_together(lib, kind):
    given, statistics, x = arrays("float32", *drawn(kind), features())
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = PartitionSpec("devices"), PartitionSpec()

    places = {"in_specs": (whole, whole, split), "out_specs": (split, whole), "check_vma": False}

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, **places)
    def run(given, statistics, x):
        return lib.run(given, statistics, x, True, kind=kind, axis_name="devices")

    alone = jax.tree.leaves(lib.run(given, statistics, x, True, kind=kind))
    for one, other in zip(jax.tree.leaves(run(given, statistics, x)), alone, strict=True):
        close(one, other, 2e-6)


def test_equinox_normalises_together_over_several_axes():
    """Under vmap: `equinox.nn.State` refuses the new values of a layer that is made inside shard_map."""
    lib = LIBRARIES["equinox"]
    given, statistics, x = arrays("float32", *drawn("IEBN"), features())
    parts = jax.vmap(
        partial(lib.run, given, statistics, training=True, axis_name="devices"), axis_name="devices"
    )
    y, new = parts(x.reshape(4, 2, *x.shape[1:]))
    whole, expected = lib.run(given, statistics, x, True)
    close(y.reshape(x.shape), whole, 2e-6)
    for one, other in zip(new, expected, strict=True):
        close(one, jnp.stack([other] * 4), 2e-6)


def test_half_precision_stays_what_batchnorm_makes_of_it(lib, kind):
    options = {"dtype": jnp.bfloat16}
    parameters, x = arrays("bfloat16", drawn(kind)[0], features())
    statistics = [jnp.ones(CHANNELS, "bfloat16" if lib.name == "equinox" else "float32")] * 2
    y, _ = lib.run(parameters, statistics, x, True, kind=kind, **options)
    plain, _ = lib.run(parameters, statistics, x, True, kind="BatchNorm", **options)
    assert y.dtype == plain.dtype == jnp.bfloat16
    rounded = [np.asarray(parameters[name], "f8") for name in REFERENCES[kind].names]
    close(np.asarray(y, "f8"), REFERENCES[kind].output(np.asarray(x, "f8"), *rounded), 0.02)


@pytest.mark.parametrize("lib", ["nnx", "linen"], indirect=True)
def test_masked_positions_count_neither_for_statistics_nor_for_means_over_space(lib, kind):
    """A batch padded to twice its width is the batch; a sample of padding alone is finite."""
    parameters, _, x = arrays("float32", *drawn(kind), last(features()))
    padded = jnp.concatenate((x, 100 * jnp.ones_like(x)), 2)
    mask = jnp.arange(padded.shape[2])[:, None] < x.shape[2]
    mask = jnp.broadcast_to(mask, (*padded.shape[:-1], 1))
    learned = {name: vector for name, vector in parameters.items() if "re" in name}
    if lib.name == "nnx":
        call = getattr(mixlayers.nnx, kind)(CHANNELS, rngs=nnx.Rngs(0))
        for name, vector in learned.items():
            getattr(call, name)[...] = vector
    else:
        layer = getattr(mixlayers.linen, kind)(use_running_average=False)
        variables = layer.init(jax.random.key(0), x)
        variables["params"] |= learned

        def call(x, mask=None):
            return layer.apply(variables, x, mask=mask, mutable=["batch_stats"])[0]

    close(call(padded, mask=mask)[:, :, : x.shape[2]], call(x), 2e-6)
    assert jnp.isfinite(call(padded, mask=mask.at[0].set(False))).all()


def test_linens_parameters_and_statistics_are_batchnorms_and_a_few_more(kind):
    x = jnp.ones((2, 4))
    norm = getattr(mixlayers.linen, kind)
    theirs, own = (
        each(use_running_average=False).init(jax.random.key(0), x) for each in (nn.BatchNorm, norm)
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, own["batch_stats"], theirs["batch_stats"]))
    assert own["params"].keys() - theirs["params"].keys() == {*REFERENCES[kind].names[2:]}


def test_channels_along_the_samples_axis_are_refused():
    with pytest.raises(ValueError, match="axis 0 of an input"):
        mixlayers.nnx.IEBN(6, axis=0, rngs=nnx.Rngs(0))(jnp.ones((6, 4)))


@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_one_channel_is_not_repeated_for_all(library):
    """IEBN's are refused by BatchNorm, and Linen's by the parameters' shapes."""
    parameters, statistics, x = arrays("float32", *drawn("RBN"), features()[:, :1])
    for training in (True, False):
        with pytest.raises(ValueError, match=r"RBN has channels \(5,\), and an input .* has \(1,\)"):
            LIBRARIES[library].run(parameters, statistics, x, training, kind="RBN")
