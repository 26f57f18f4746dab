"""IEBN in Keras: against the NumPy reference, and Keras' own BatchNormalization; models that are converted."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from mixlayers import Mixup
from mixlayers.keras import IEBN, convert_iebn, get_mixer, iebn_parameters, revert_iebn, wrap
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics

CHANNELS = 5
NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "weight_readjust": "weight_readjust",
    "bias_readjust": "bias_readjust",
}
SHAPES = {"vectors": (8, CHANNELS), "series": (8, CHANNELS, 6), "maps": (8, CHANNELS, 4, 3)}
CASES = [("vectors", -1), ("series", 1), ("maps", -1), ("maps", 1)]


def numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape) * 1.5 + 0.7


def values():
    """Random parameters by the reference's names, and a moving mean and variance."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(CHANNELS) for name in NAMES}, {
        "mean": rng.standard_normal(CHANNELS),
        "var": 0.5 + rng.random(CHANNELS),
    }


def given(layer, x):
    """The layer, built for x and with the values above, as far as it has them."""
    if not layer.built:
        layer.build(x.shape)
    parameters, statistics = values()
    for name, ours in NAMES.items():
        if getattr(layer, ours, None) is not None:
            getattr(layer, ours).assign(parameters[name])
    layer.moving_mean.assign(statistics["mean"])
    layer.moving_variance.assign(statistics["var"])
    return layer


def run(layer, x, gradient, training):
    """The output, and the gradients of `(y * gradient).sum()`, of x and by the weights' names."""
    x, gradient = x.astype("float32"), gradient.astype("float32")
    if keras.backend.backend() == "torch":
        import torch

        at = torch.tensor(x, requires_grad=True)
        y = layer(at, training=training)
        (y * torch.tensor(gradient)).sum().backward()
        found = {weight.name: weight.value.grad.numpy() for weight in layer.trainable_weights}
        return y.detach().numpy(), at.grad.numpy(), found
    import jax

    trained, others = layer.trainable_variables, layer.non_trainable_variables

    def loss(trained, x):
        y, new = layer.stateless_call(trained, [each.value for each in others], x, training=training)
        return (y * gradient).sum(), (y, new)

    found, (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))([each.value for each in trained], x)
    for each, value in zip(others, new, strict=True):
        each.assign(value)
    return y, found[1], {weight.name: each for weight, each in zip(trained, found[0], strict=True)}


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def close(ours, theirs, tolerance):
    """Alike, by the largest value there is."""
    ours = numpy(ours)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()))


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


def network(**options):
    """Norms in the model, in a model in it, and one that is used twice; their statistics are not the first ones."""
    inner = keras.Sequential(
        [
            keras.Input((6, 6, CHANNELS)),
            layers.Conv2D(CHANNELS, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
        ],
        name="inner",
    )
    twice = layers.BatchNormalization(name="twice", **options)
    x = keras.Input((6, 6, CHANNELS))
    y = twice(inner(x))
    y = layers.Dropout(0.5)(keras.ops.relu(y)) + layers.BatchNormalization(name="shortcut")(x)
    model = keras.Model(x, layers.GlobalAveragePooling2D()(twice(y)), name="net")
    for weight in model.weights:
        if weight.name in ("gamma", "beta", "moving_mean", "moving_variance"):  # not as at the start
            weight.assign(0.5 + np.random.default_rng(0).random(weight.shape))
    return model


def by_path(model):
    return {weight.path: numpy(weight) for weight in model.weights}


@pytest.mark.parametrize("preserve", [True, False])
def test_a_functional_model_is_copied_with_its_weights(preserve, caplog):
    model = network()
    model.get_layer("twice").trainable = False
    model.compile("sgd", lambda y, output: output, metrics=["mae"])  # which Keras could not copy
    x = np.moveaxis(numbers((4, CHANNELS, 6, 6), 3), 1, -1).astype("float32")
    before, held = numpy(model(x)), by_path(model)
    with caplog.at_level(logging.INFO, "mixlayers"):
        new = convert_iebn(model, skip="short*", preserve_output=preserve)
    assert "replaced 2 norms by IEBN, +20 parameters: inner.norm, twice" in caplog.text
    assert type(new) is type(model) and new.name == "net"
    kinds = [type(new.get_layer("inner").get_layer("norm")), type(new.get_layer("twice"))]
    assert kinds == [IEBN, IEBN] and type(new.get_layer("shortcut")) is layers.BatchNormalization
    assert not new.get_layer("twice").trainable and new.get_layer("shortcut").trainable
    after = by_path(new)
    for path, array in held.items():
        if preserve and path.endswith("gamma") and "shortcut" not in path:
            array = array * (1.0 + np.e)  # 1 / sigmoid(-1)
        np.testing.assert_allclose(after[path], array, rtol=1e-6)
    assert len(after) == len(held) + 4
    assert np.allclose(numpy(new(x)), before, atol=1e-5) == preserve
    assert model.compiled and not new.compiled
    new.compile("sgd", "mse")
    new.fit(x, numbers((4, CHANNELS), 4), verbose=0)
    moved = by_path(new)
    assert np.abs(moved["inner/norm/weight_readjust"]).max() > 0 and not moved["twice/weight_readjust"].any()
    np.testing.assert_array_equal(numpy(model(x)), before)  # the model itself is as it was
    with pytest.raises(ValueError, match="no BatchNorm layer to convert"):
        convert_iebn(new, skip="shortcut")

    model = network()
    back = revert_iebn(convert_iebn(model))
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in model.layers]
    held = by_path(model)
    assert by_path(back).keys() == held.keys()
    for path, array in by_path(back).items():
        np.testing.assert_array_equal(array, held[path])


def test_a_lambda_in_a_copy_is_the_same_function():
    """Keras would load it from its bytes, without what it knows by name."""
    act = layers.Lambda(lambda x: keras.ops.relu(x) * CHANNELS)
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(), act])
    x = np.random.default_rng(0).standard_normal((2, 3)).astype("float32")
    new = convert_iebn(model, preserve_output=True)
    np.testing.assert_allclose(numpy(new(x)), numpy(model(x)), rtol=1e-6)


def test_a_copy_draws_what_the_model_would_have():
    model = network()
    model(np.ones((2, 6, 6, CHANNELS), "float32"), training=True)  # the dropout's generator has moved on
    drops = [
        [layer.seed_generator.state for layer in each.layers if isinstance(layer, layers.Dropout)]
        for each in (model, convert_iebn(model))
    ]
    np.testing.assert_array_equal(*(numpy(state) for (state,) in drops))


def test_attention_that_is_alike_for_all_samples_folds():
    x = np.moveaxis(numbers((4, CHANNELS, 6, 6), 3), 1, -1).astype("float32")
    model = convert_iebn(network())
    model.get_layer("twice").bias_readjust.assign(numbers(CHANNELS, 5))
    before = numpy(model(x))
    back = revert_iebn(model, preserve_output=True)
    assert type(back.get_layer("twice")) is layers.BatchNormalization
    np.testing.assert_allclose(numpy(back(x)), before, atol=1e-6)
    model.get_layer("twice").weight_readjust.assign(np.ones(CHANNELS))
    back = revert_iebn(model, preserve_output=True)
    assert type(back.get_layer("twice")) is IEBN
    assert type(back.get_layer("shortcut")) is layers.BatchNormalization
    with pytest.raises(ValueError, match="no IEBN layer: nothing to revert"):
        revert_iebn(network())


def test_a_converted_model_is_saved_and_loaded(tmp_path):
    x = np.moveaxis(numbers((4, CHANNELS, 6, 6), 3), 1, -1).astype("float32")
    model = convert_iebn(network())
    model.get_layer("twice").weight_readjust.assign(np.ones(CHANNELS))
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert type(loaded.get_layer("twice")) is IEBN
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))
    model.save_weights(tmp_path / "net.weights.h5")
    fresh = convert_iebn(network())
    fresh.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(numpy(fresh(x)), numpy(model(x)))


def test_models_that_are_not_built_are_converted_and_one_norm_alone():
    lazy = convert_iebn(keras.Sequential([layers.Dense(3), layers.BatchNormalization()]))
    assert type(lazy.layers[1]) is IEBN and not lazy.built
    assert lazy(np.ones((2, 4), "float32")).shape == (2, 3)
    with pytest.raises(ValueError, match="got one that is not built yet in 'plain': skip it"):
        convert_iebn(keras.Sequential([layers.BatchNormalization(name="plain")]), preserve_output=True)
    with pytest.raises(ValueError, match="got scale=False in '': skip it"):
        convert_iebn(layers.BatchNormalization(name="plain", scale=False), preserve_output=True)
    alone = given(layers.BatchNormalization(momentum=0.5), np.ones((2, CHANNELS)))
    new = convert_iebn(alone)
    assert type(new) is IEBN and new.momentum == 0.5
    np.testing.assert_array_equal(numpy(new.moving_mean), numpy(alone.moving_mean))
    assert type(revert_iebn(new)) is layers.BatchNormalization


class Loud(layers.BatchNormalization):
    """Somebody's own norm, with an argument of its own."""

    def __init__(self, volume=1, **kwargs):
        super().__init__(**kwargs)
        self.volume = volume

    def get_config(self):
        return {**super().get_config(), "volume": self.volume}


class Block(keras.Layer):
    """A layer that makes a norm itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(x)


def test_what_cannot_be_converted_is_named():
    model = keras.Sequential(
        [keras.Input((4,)), Loud(2, name="loud"), Block(name="block"), layers.BatchNormalization()]
    )
    with pytest.warns(UserWarning, match="left as they are: '(loud|block.norm)', of type") as caught:
        new = convert_iebn(model)
    assert len(caught) == 2 and all(warning.filename == __file__ for warning in caught)
    assert [type(layer) for layer in new.layers] == [Loud, Block, IEBN]
    new = convert_iebn(model, skip=["block.*"], also={Loud: IEBN.from_batchnorm})
    assert [type(layer) for layer in new.layers] == [IEBN, Block, IEBN]
    with pytest.raises(ValueError, match="matches no layer"):
        convert_iebn(model, skip="there_is_none")


def test_models_of_code_are_refused_or_copied_as_plain_ones():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()

        def call(self, x):
            return self.norm(x)

    with pytest.raises(
        TypeError, match=r"got Net, whose own code runs its layers: write mixlayers\.keras\.IEBN"
    ):
        convert_iebn(Net())

    class Backbone(keras.Model):
        def __init__(self, width):
            x = keras.Input((width,))
            super().__init__(x, layers.BatchNormalization()(x), name="backbone")

    class Twice(Backbone):
        def call(self, x):
            return 2.0 * super().call(x)

    for model in (
        Twice(3),
        keras.Sequential([keras.Input((3,)), Twice(3)]),
    ):  # Keras would copy both as plain ones
        with pytest.raises(TypeError, match="got Twice, whose own code runs its layers"):
            convert_iebn(model)
    with pytest.warns(UserWarning, match="copied as plain Functional models.*: backbone, of class Backbone"):
        new = convert_iebn(Backbone(3), preserve_output=True)
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(numpy(new(x)), numpy(Backbone(3)(x)), rtol=1e-6)


def test_a_converted_model_mixes_and_a_wrapped_one_is_not_converted():
    model = convert_iebn(network())
    wrap(model, Mixup(), seed=3)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.ones((4, 6, 6, CHANNELS), "float32"), np.ones((4, CHANNELS)), verbose=0)
    assert get_mixer(model).step == 1
    with pytest.raises(ValueError, match="the model is wrapped, and its copy would not mix"):
        revert_iebn(model)
    with pytest.raises(ValueError, match="the model is wrapped"):
        convert_iebn(wrap(network(), Mixup()))


def test_decay_leaves_the_attention_alone():
    model = convert_iebn(network())
    others, attention = iebn_parameters(model)
    assert sorted(weight.name for weight in attention) == ["bias_readjust"] * 3 + ["weight_readjust"] * 3
    assert len(others) + len(attention) == len(model.trainable_weights)
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(attention)
    before = {id(weight): numpy(weight).copy() for weight in model.trainable_weights}
    optimizer.apply(
        [keras.ops.zeros(weight.shape) for weight in model.trainable_weights], model.trainable_weights
    )
    for weight in attention:
        np.testing.assert_array_equal(numpy(weight), before[id(weight)])
    for weight in others:
        np.testing.assert_allclose(numpy(weight), 0.95 * before[id(weight)], rtol=1e-5)
    with pytest.raises(ValueError, match="no IEBN that is built"):
        iebn_parameters(network())
