"""IEBN in Keras: against the NumPy reference, and Keras' own BatchNormalization."""

import keras
import numpy as np
import pytest
from keras import layers

from mixlayers.keras import IEBN
from tests.keras.iebn_cases import CASES, CHANNELS, NAMES, SHAPES, close, given, numbers, numpy, run, values
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "axis"), CASES)
def test_equals_the_reference(kind, training, axis):
    x, gradient = numbers(SHAPES[kind], 1), numbers(SHAPES[kind], 2)

    def turned(array):
        return np.moveaxis(array, 1, axis)

    parameters, statistics = values()
    kept, vectors = ({} if training else statistics), [parameters[name] for name in NAMES]
    layer = given(IEBN(axis=axis, momentum=0.9, epsilon=1e-5), turned(x))
    y, on_x, found = run(layer, turned(x), turned(gradient), training)
    close(y, turned(iebn(x, *vectors, **kept)), 1e-6)
    expected = iebn_backward(gradient, x, *vectors, **kept)
    close(on_x, turned(expected.x), 2e-6)
    for name, ours in NAMES.items():
        close(found[ours], getattr(expected, name), 2e-6)
    after = (
        running_statistics(x, statistics["mean"], statistics["var"], unbiased=False)
        if training
        else tuple(statistics.values())
    )
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
def test_is_batch_normalizations_output_scaled_for_each_sample(options, training):
    """Whatever Keras' own layer does with the same arguments: `a * y + (1 - a) * beta` of its y."""
    x = np.moveaxis(numbers(SHAPES["maps"], 1), 1, -1).astype("float32")
    ours, theirs = given(IEBN(**options), x), given(layers.BatchNormalization(**options), x)
    parameters, _ = values()
    z = parameters["weight_readjust"] * x.mean((1, 2), keepdims=True) + parameters["bias_readjust"]
    a = 1.0 / (1.0 + np.exp(-z))
    beta = parameters["bias"] if options.get("center", True) else 0.0
    for _ in range(2):
        expected = a * numpy(theirs(x, training=training)) + (1.0 - a) * beta
        close(ours(x, training=training), expected, 2e-6)
    kept = {weight.name: numpy(weight) for weight in ours.non_trainable_weights}
    assert kept.keys() == {weight.name for weight in theirs.non_trainable_weights}
    for weight in theirs.non_trainable_weights:
        np.testing.assert_array_equal(kept[weight.name], numpy(weight))


def test_a_frozen_layer_normalises_by_its_moving_statistics():
    x = np.moveaxis(numbers(SHAPES["maps"], 1), 1, -1).astype("float32")
    layer = given(IEBN(), x)
    layer.trainable = False
    before = numpy(layer.moving_mean).copy()
    np.testing.assert_array_equal(numpy(layer(x, training=True)), numpy(layer(x, training=False)))
    np.testing.assert_array_equal(numpy(layer.moving_mean), before)
    assert layer.trainable_weights == []


def test_half_precision_computes_the_attention_in_single():
    x = np.moveaxis(numbers(SHAPES["maps"], 1), 1, -1)
    layer = given(IEBN(dtype="mixed_bfloat16", epsilon=1e-5), x)
    half = keras.ops.cast(x.astype("float32"), "bfloat16")
    y = layer(half, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert layer.weight_readjust.dtype == "float32"
    parameters, _ = values()
    rounded = np.moveaxis(numpy(keras.ops.cast(half, "float32")), -1, 1).astype("float64")
    expected = iebn(rounded, *(parameters[name] for name in NAMES))
    close(keras.ops.cast(y, "float32"), np.moveaxis(expected, 1, -1), 0.01)

    # a mean over 4096 points that bfloat16 sums would be off by far more than its own rounding
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


def test_masked_positions_count_neither_for_statistics_nor_for_attention():
    """A batch padded to twice its length is the batch; a sample of padding alone is finite."""
    x = np.moveaxis(numbers(SHAPES["series"], 1), 1, -1).astype("float32")
    padded = np.concatenate((x, 100 * np.ones_like(x)), 1)
    mask = np.broadcast_to(np.arange(12) < 6, (8, 12))
    for training in (True, False):
        one, other = given(IEBN(), x), given(IEBN(), x)
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
    with pytest.raises(ValueError, match=r"axis 0 of an input \(6, 4\) cannot be the samples'"):
        IEBN(axis=-2)(np.ones((6, 4), "float32"))
    x, mask = np.ones((2, 3, 4), "float32"), keras.ops.ones((2, 3), "bool")
    with pytest.raises(ValueError, match="the channels must be there, got axis=1 of an input"):
        IEBN(axis=1)(x, mask=mask)


def test_every_argument_of_batch_normalization_is_kept():
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
    again = IEBN.from_config(IEBN(**options).get_config())
    assert type(again) is IEBN and again.get_config() == norm.get_config()
    x = np.ones((2, CHANNELS, 3), "float32")
    again(x)
    norm(x)
    np.testing.assert_allclose(numpy(again.losses[0]), numpy(norm.losses[0]))
    np.testing.assert_array_equal(numpy(again.gamma), 3.0)
    assert len(again.weights) == len(norm.weights) + 2


def test_a_step_of_fit_is_the_references():
    x, t = (np.moveaxis(numbers(SHAPES["maps"], seed), 1, -1).astype("float32") for seed in (1, 2))
    model = keras.Sequential([keras.Input(x.shape[1:]), IEBN(epsilon=1e-5)])
    given(model.layers[0], x)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(x, t, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    parameters, statistics = values()
    first, target = (np.moveaxis(array, -1, 1).astype("float64") for array in (x, t))
    vectors = [parameters[name] for name in NAMES]
    slope = 2.0 * (iebn(first, *vectors) - target) / target.size
    expected = iebn_backward(slope, first, *vectors)
    for name, ours in NAMES.items():
        close(getattr(model.layers[0], ours), parameters[name] - 0.5 * getattr(expected, name), 1e-6)
    mean, var = running_statistics(first, *statistics.values(), momentum=0.01, unbiased=False)
    close(model.layers[0].moving_mean, mean, 1e-6)
    close(model.layers[0].moving_variance, var, 1e-6)
