"""IEBN and RBN in Keras: against the NumPy references, and Keras' own BatchNormalization."""

import keras
import numpy as np
import pytest
from keras import layers

import mixlayers.keras
from mixlayers.keras import IEBN
from tests.keras.norm_cases import (
    CASES,
    CHANNELS,
    OURS,
    SHAPES,
    close,
    given,
    last,
    numbers,
    numpy,
    run,
    values,
)
from tests.support.reference_iebn import running_statistics
from tests.support.reference_norms import REFERENCES


@pytest.fixture(params=REFERENCES)
def kind(request):
    return request.param


def made(kind, **options):
    return getattr(mixlayers.keras, kind)(**options)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_equals_the_reference(kind, shape, training, axis):
    x, gradient = numbers(SHAPES[shape], 1), numbers(SHAPES[shape], 2)

    def turned(array):
        return np.moveaxis(array, 1, axis)

    reference, (vectors, statistics) = REFERENCES[kind], values(kind)
    kept = {} if training else statistics
    layer = given(made(kind, axis=axis, momentum=0.9, epsilon=1e-5), turned(x))
    y, on_x, found = run(layer, turned(x), turned(gradient), training)
    close(y, turned(reference.output(x, *vectors, **kept)), 1e-6)
    expected, *slopes = reference.gradients(gradient, x, vectors, **kept)
    close(on_x, turned(expected), 2e-6)
    assert len(found) == len(reference.names)
    for name, slope in zip(reference.names, slopes, strict=True):
        close(
            found[OURS.get(name, name)], slope, 4e-6
        )  # of all samples and points, in the backend's own order
    before = tuple(statistics.values())
    seen = reference.normalised(x, vectors)
    after = running_statistics(seen, *before, unbiased=False) if training else before
    close(layer.moving_mean, after[0], 1e-6)
    close(layer.moving_variance, after[1], 1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"renorm": True, "renorm_clipping": {"rmax": 1.2, "rmin": 0.8, "dmax": 0.1}, "renorm_momentum": 0.8},
        {"center": False},
        {"scale": False},
        {"synchronized": False, "center": False, "scale": False, "epsilon": 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_is_batch_normalizations_output_scaled_for_each_sample(kind, options, training):
    """Whatever Keras' own layer does with the same arguments: `gamma * a * y + beta` of its bare y."""
    x = numbers(SHAPES["maps"], 1)
    (weight, bias, *rest), _ = values(kind)
    moved = last(REFERENCES[kind].normalised(x, (*rest,)))
    x = last(x)
    ours = given(made(kind, **options), x)
    theirs = given(layers.BatchNormalization(**{**options, "center": False, "scale": False}), x)
    for _ in range(2):
        y = numpy(theirs(moved, training=training))
        z = rest[0] * REFERENCES[kind].read(x, y).mean((1, 2), keepdims=True) + rest[1]
        expected = y / (1.0 + np.exp(-z))
        expected = expected * weight if options.get("scale", True) else expected
        close(ours(x, training=training), expected + bias * options.get("center", True), 4e-6)
    kept = {weight.name: numpy(weight) for weight in ours.non_trainable_weights}
    assert kept.keys() == {weight.name for weight in theirs.non_trainable_weights}
    for weight in theirs.non_trainable_weights:
        close(kept[weight.name], numpy(weight), 1e-6)


def test_a_frozen_layer_normalises_by_its_moving_statistics():
    x = last(numbers(SHAPES["maps"], 1))
    layer = given(IEBN(), x)
    layer.trainable = False
    before = numpy(layer.moving_mean).copy()
    np.testing.assert_array_equal(numpy(layer(x, training=True)), numpy(layer(x, training=False)))
    np.testing.assert_array_equal(numpy(layer.moving_mean), before)
    assert layer.trainable_weights == []


def test_half_precision_computes_the_attention_in_single(kind):
    x = last(numbers(SHAPES["maps"], 1))
    layer = given(made(kind, dtype="mixed_bfloat16", epsilon=1e-5), x)
    half = keras.ops.cast(x, "bfloat16")
    y = layer(half, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert layer.weight_readjust.dtype == "float32"
    rounded = np.moveaxis(numpy(keras.ops.cast(half, "float32")), -1, 1).astype("float64")
    expected = REFERENCES[kind].output(rounded, *values(kind)[0])
    close(keras.ops.cast(y, "float32"), last(expected), 0.01)


def test_a_mean_over_many_points_is_not_summed_in_half_precision():
    """Over 4096 points that bfloat16 sums it would be off by far more than its own rounding."""
    wide = np.random.default_rng(0).standard_normal((2, 64, 64, 1)) + 100.0
    layer = IEBN(dtype="mixed_bfloat16", center=False)
    layer.build(wide.shape)
    layer.weight_readjust.assign([1.0])
    layer.bias_readjust.assign([-100.0])
    half = keras.ops.cast(wide.astype("float32"), "bfloat16")
    mean = numpy(keras.ops.cast(half, "float32")).astype("float64").mean((1, 2), keepdims=True)
    plain = layers.BatchNormalization(dtype="mixed_bfloat16", center=False)(half, training=True)
    expected = numpy(keras.ops.cast(plain, "float32")) / (1.0 + np.exp(100.0 - mean))
    close(keras.ops.cast(layer(half, training=True), "float32"), expected, 0.01)


def test_masked_positions_count_neither_for_statistics_nor_for_means_over_space(kind):
    """A batch padded to twice its length is the batch; a sample of padding alone is finite."""
    x = last(numbers(SHAPES["series"], 1))
    padded = np.concatenate((x, 100 * np.ones_like(x)), 1)
    mask = np.broadcast_to(np.arange(12) < 6, (8, 12))
    for training in (True, False):
        one, other = given(made(kind), x), given(made(kind), x)
        y = numpy(one(padded, training=training, mask=keras.ops.convert_to_tensor(mask)))
        close(y[:, :6], numpy(other(x, training=training)), 2e-6)
        close(one.moving_variance, numpy(other.moving_variance), 1e-6)
    nothing = mask.copy()
    nothing[0] = False
    assert np.isfinite(numpy(one(padded, training=True, mask=keras.ops.convert_to_tensor(nothing)))).all()


def test_a_mask_of_keras_reaches_the_layer():
    words = keras.Input((6,), dtype="int32")
    layer = IEBN()
    model = keras.Model(words, layer(layers.Embedding(9, CHANNELS, mask_zero=True)(words)))
    layer.weight_readjust.assign(np.ones(CHANNELS))
    one, other = np.array([[3, 4, 0, 0, 0, 0]]), np.array([[3, 4]])
    vectors = numpy(model.layers[1](other))
    a = 1.0 / (1.0 + np.exp(1.0 - vectors.mean(1, keepdims=True)))
    close(model(one)[:, :2], a * vectors / np.sqrt(1.0 + layer.epsilon), 1e-6)


def test_axes_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match=r"IEBN scales .* axis 0 of an input \(6, 4\) cannot be the samples'"
    ):
        IEBN(axis=-2)(np.ones((6, 4), "float32"))
    x, mask = np.ones((2, 3, 4), "float32"), keras.ops.ones((2, 3), "bool")
    with pytest.raises(ValueError, match="the channels must be there, got axis=1 of an input"):
        IEBN(axis=1)(x, mask=mask)


def test_every_argument_of_batch_normalization_is_kept(kind):
    options = {
        "axis": 1,
        "momentum": 0.7,
        "epsilon": 0.02,
        "beta_initializer": "ones",
        "gamma_initializer": keras.initializers.Constant(3.0),
        "moving_mean_initializer": "ones",
        "moving_variance_initializer": "zeros",
        "beta_regularizer": keras.regularizers.L2(0.1),
        "gamma_regularizer": keras.regularizers.L2(0.2),
        "beta_constraint": "non_neg",
        "gamma_constraint": keras.constraints.MaxNorm(2.0),
        "synchronized": False,
        "renorm": True,
        "renorm_clipping": {"rmax": 3.0},
        "renorm_momentum": 0.8,
        "name": "mine",
        "dtype": "float32",
        "trainable": True,
    }
    norm = layers.BatchNormalization(**options)
    again = type(made(kind)).from_config(made(kind, **options).get_config())
    assert type(again) is type(made(kind)) and again.get_config() == norm.get_config()
    x = np.ones((2, CHANNELS, 3), "float32")
    again(x)
    norm(x)
    np.testing.assert_allclose(numpy(again.losses[0]), numpy(norm.losses[0]))
    np.testing.assert_array_equal(numpy(again.gamma), 3.0)
    assert len(again.weights) == len(norm.weights) + len(REFERENCES[kind].names) - 2


def test_a_step_of_fit_is_the_references(kind):
    first, target = (numbers(SHAPES["maps"], seed) for seed in (1, 2))
    model = keras.Sequential([keras.Input(last(first).shape[1:]), made(kind, epsilon=1e-5)])
    layer = given(model.layers[0], last(first))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(last(first), last(target), batch_size=len(first), epochs=1, shuffle=False, verbose=0)
    reference, (vectors, statistics) = REFERENCES[kind], values(kind)
    slope = 2.0 * (reference.output(first, *vectors) - target) / target.size
    _, *slopes = reference.gradients(slope, first, vectors)
    for name, vector, step in zip(reference.names, vectors, slopes, strict=True):
        close(getattr(layer, OURS.get(name, name)), vector - 0.5 * step, 1e-6)
    seen = reference.normalised(first, vectors)
    mean, var = running_statistics(seen, *statistics.values(), momentum=0.01, unbiased=False)
    close(layer.moving_mean, mean, 1e-6)
    close(layer.moving_variance, var, 1e-6)
