"""RBN in every framework against the NumPy reference: the same layer, the same numbers."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest

from tests.support.reference_iebn import running_statistics
from tests.support.reference_rbn import NAMES, along, rbn, recentred, slopes

LAYERS = {"torch": "RBN{}d", "paddle": "RBN{}D", "chainer": "RBN"}
BATCH_NORMS = {"torch": "nn BatchNorm2d", "paddle": "nn BatchNorm2D", "chainer": "links BatchNormalization"}
EPS = {"torch": 1e-5, "paddle": 1e-5, "chainer": 2e-5}  # each framework's default
SHAPES = [(6, 3), (5, 2, 7), (4, 3, 5, 6), (3, 2, 2, 3, 2)]
MEANINGS = {"gamma": "weight", "beta": "bias", "avg_mean": "mean", "avg_var": "var", "running_mean": "mean"}
MEANINGS |= {"running_var": "var", "_mean": "mean", "_variance": "var"}
NATIVE = ["compiled passes", "the framework's operations"]


@pytest.fixture(params=LAYERS)
def fw(request, frameworks):
    return next(framework for framework in frameworks if framework.name == request.param)


def batch_norm(fw):
    """The framework's own, for images."""
    module, name = BATCH_NORMS[fw.name].split()
    return getattr(import_module(f"{fw.name}.{module}"), name)


@pytest.fixture(params=NATIVE)
def native(request, fw, monkeypatch):
    if request.param != NATIVE[0]:
        monkeypatch.setattr(f"mixlayers_{fw.name}._iebn.native.library", lambda: None)


def meaning(name):
    """A parameter's or statistic's name in any framework as the reference has it."""
    last = name.replace("/", ".").split(".")[-1]
    return MEANINGS.get(last, last)


def case(shape, dtype="float64"):
    """x, the gradient of the output, parameters and statistics, rounded to the dtype."""
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=shape[1]) for name in NAMES}
    vectors |= {"mean": rng.normal(size=shape[1]), "var": 0.5 + rng.random(shape[1])}
    planes = 1.5 * rng.normal(size=shape[:2] + (1,) * (len(shape) - 2))  # instances differ by their means too
    x, upstream = rng.normal(0.7, 1.5, shape) + planes, rng.normal(size=shape)
    rounded = [each.astype(dtype).astype(np.float64) for each in (x, upstream, *vectors.values())]
    return rounded[0], rounded[1], dict(zip(vectors, rounded[2:], strict=True))


def made(fw, shape, vectors, dtype):
    axes = max(1, len(shape) - 2)
    layer = fw.cast(getattr(fw.face, LAYERS[fw.name].format(axes))(shape[1]), dtype)
    fw.load(
        layer,
        {
            name: vectors.get(meaning(name), value).astype(value.dtype)
            for name, value in fw.state(layer).items()
        },
    )
    return layer


def statistics(fw, layer):
    state = {meaning(name): value for name, value in fw.state(layer).items()}
    return state["mean"], state["var"]


def close(found, wanted, tolerance):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max()))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-5)])
def test_equals_the_reference(fw, shape, training, dtype, tolerance):
    x, upstream, vectors = case(shape, dtype)
    layer = made(fw, shape, vectors, dtype)
    own = [vectors[name] for name in NAMES]
    kept = {} if training else {name: vectors[name] for name in ("mean", "var")}
    formula = partial(rbn, eps=EPS[fw.name], **kept)
    on_x, *on_parameters = slopes(formula, upstream, x, own)

    def run():
        close(fw.numpy(layer(fw.tensor(x, dtype))), formula(x, *own), tolerance)
        after = statistics(fw, layer)
        close(fw.gradient(layer, fw.tensor(x, dtype), upstream), on_x, tolerance)
        found = {meaning(name): gradient for name, gradient in fw.gradients(layer).items()}
        assert set(found) == set(NAMES)
        for name, wanted in zip(NAMES, on_parameters, strict=True):
            close(found[name], wanted, tolerance)
        return after

    before = vectors["mean"], vectors["var"]
    if training:
        moved = recentred(x, vectors["weight_recenter"])
        wanted = running_statistics(moved, *before, unbiased=fw.name != "paddle")
        after = run()
    else:
        wanted = before
        with fw.evaluating(layer):
            after = run()
            with fw.no_grad():  # a pass of its own
                close(fw.numpy(layer(fw.tensor(x, dtype))), formula(x, *own), tolerance)
    if fw.name == "paddle":  # its own batch norm takes its momentum in float32
        tolerance = max(tolerance, 1e-6)
    for one, other in zip(after, wanted, strict=True):
        close(one, other, tolerance)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_features_that_are_large_and_far_from_zero(fw, training):
    """Where the passes go by blocks and by vectors, and where squares about 0 would cancel."""
    shape = (32, 24, 20, 20)
    x, upstream, vectors = case(shape, "float32")
    x = (x + 30).astype(np.float32).astype(np.float64)
    layer = made(fw, shape, vectors, "float32")
    kept = {} if training else {name: vectors[name] for name in ("mean", "var")}
    formula, own = partial(rbn, eps=EPS[fw.name], **kept), [vectors[name] for name in NAMES]
    step = np.random.default_rng(1).normal(size=shape)

    def run():
        close(fw.numpy(layer(fw.tensor(x, "float32"))), formula(x, *own), 1e-5)
        on_x = fw.gradient(layer, fw.tensor(x, "float32"), upstream).astype(np.float64)
        close((on_x * step).sum((0, 2, 3)), along(formula, upstream, x, own, step), 2e-4)

    if training:
        run()
    else:
        with fw.evaluating(layer):
            run()


@pytest.mark.usefixtures("native")
def test_the_callers_tensor_is_not_written_to(fw):
    x, _, vectors = case(SHAPES[2])
    layer, given = made(fw, SHAPES[2], vectors, "float64"), fw.tensor(x, "float64")
    fw.numpy(layer(given))
    assert (fw.numpy(given) == x).all()


def test_a_new_layer_is_batchnorm_times_sigmoid_of_one(fw):
    x, _, _ = case((8, 3, 4, 4), "float32")
    norm, layer = batch_norm(fw)(3), getattr(fw.face, LAYERS[fw.name].format(2))(3)
    plain, own = (fw.numpy(each(fw.tensor(x, "float32"))) for each in (norm, layer))
    close(own, plain / (1 + np.exp(-1.0)), 1e-5)
    for one, other in zip(statistics(fw, layer), statistics(fw, norm), strict=True):
        close(one, other, 1e-5)


def network(fw):
    """Three norms, of which two have weights and statistics of their own."""
    model = fw.sequential(*(batch_norm(fw)(3) for _ in range(3)))
    rng = np.random.default_rng(3)
    state = fw.state(model)
    fw.load(
        model,
        {
            name: rng.uniform(0.5, 2.0, value.shape).astype(value.dtype) if value.ndim else value
            for name, value in state.items()
        },
    )
    return model


@pytest.mark.parametrize("preserve", [True, False])
def test_conversion_keeps_weights_and_with_preserve_output_the_function(fw, preserve):
    model, x = network(fw), fw.tensor(case((8, 3, 4, 4), "float32")[0], "float32")
    first, *_ = (name for name, layer in named(fw, model).items() if isinstance(layer, batch_norm(fw)))
    before = fw.state(model)
    with fw.evaluating(model):
        plain = fw.numpy(model(x))
    assert fw.face.convert_rbn(model, skip=first, preserve_output=preserve) is model
    assert [type(layer).__name__[:3] for layer in norms(fw, model)] == ["Bat", "RBN", "RBN"]
    after = fw.state(model)
    assert {name.split("_re")[-1] for name in after.keys() - before.keys()} == {"adjust", "center"}
    scaled = {name for name in before if not np.array_equal(before[name], after[name])}
    assert len(scaled) == (2 if preserve else 0)
    with fw.evaluating(model):
        same = np.allclose(fw.numpy(model(x)), plain, rtol=1e-5, atol=1e-5)
    assert same == preserve
    fw.face.revert_rbn(model, preserve_output=preserve)
    assert [type(layer).__name__[:3] for layer in norms(fw, model)] == ["Bat"] * 3
    with fw.evaluating(model):
        np.testing.assert_allclose(fw.numpy(model(x)), plain, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="no RBN"):
        fw.face.revert_rbn(model)


def named(fw, model):
    if fw.name == "torch":
        return dict(model.named_modules())
    if fw.name == "paddle":
        return dict(model.named_sublayers())
    return {name.strip("/").replace("/", "."): link for name, link in model.namedlinks()}


def norms(fw, model):
    kinds = batch_norm(fw), getattr(fw.face, LAYERS[fw.name].format(2))
    return [layer for layer in named(fw, model).values() if isinstance(layer, kinds)]


@pytest.mark.parametrize("recenter", [0.0, 0.3])
def test_what_has_learned_to_recentre_does_not_fold(fw, recenter):
    model = fw.face.convert_rbn(network(fw))
    state = fw.state(model)
    moved = {name: value + recenter if "recenter" in name else value for name, value in state.items()}
    fw.load(model, moved)
    if recenter:
        with pytest.raises(ValueError, match="weight_readjust and weight_recenter is 0"):
            fw.face.revert_rbn(model, preserve_output=True)
    else:
        fw.face.revert_rbn(model, preserve_output=True)
    assert [type(layer).__name__[:3] for layer in norms(fw, model)] == ["RBN" if recenter else "Bat"] * 3


def test_subclasses_are_left_and_named_where_the_caller_stands(fw):
    class LoudNorm(batch_norm(fw)):
        pass

    model = fw.sequential(batch_norm(fw)(3), LoudNorm(3))
    with pytest.warns(UserWarning, match="LoudNorm") as caught:
        fw.face.convert_rbn(model)
    assert caught[0].filename == __file__
