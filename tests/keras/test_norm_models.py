"""Models whose norms are converted into IEBN or RBN, and back."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from mixlayers import Mixup
from mixlayers.keras import (
    IEBN,
    RBN,
    convert_iebn,
    convert_rbn,
    get_mixer,
    iebn_parameters,
    revert_iebn,
    revert_rbn,
    wrap,
)
from tests.keras.norm_cases import CHANNELS, given, last, numbers, numpy

BOTH = pytest.mark.parametrize(
    ("kind", "convert", "revert"),
    [(IEBN, convert_iebn, revert_iebn), (RBN, convert_rbn, revert_rbn)],
    ids=["IEBN", "RBN"],
)


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


@BOTH
@pytest.mark.parametrize("preserve", [True, False])
def test_a_functional_model_is_copied_with_its_weights(preserve, kind, convert, revert, caplog):
    model = network()
    model.get_layer("twice").trainable = False
    model.compile("sgd", lambda y, output: output, metrics=["mae"])  # which Keras could not copy
    x = last(numbers((4, CHANNELS, 6, 6), 3))
    before, held = numpy(model(x)), by_path(model)
    with caplog.at_level(logging.INFO, "mixlayers"):
        new = convert(model, skip="short*", preserve_output=preserve)
    added = 2 * len(kind.starts)
    text = f"replaced 2 norms by {kind.__name__}, +{added * CHANNELS} parameters: inner.norm, twice"
    assert text in caplog.text
    assert type(new) is type(model) and new.name == "net"
    kinds = [type(new.get_layer("inner").get_layer("norm")), type(new.get_layer("twice"))]
    assert kinds == [kind, kind] and type(new.get_layer("shortcut")) is layers.BatchNormalization
    assert not new.get_layer("twice").trainable and new.get_layer("shortcut").trainable
    after = by_path(new)
    for path, array in held.items():
        if preserve and path.endswith("gamma") and "shortcut" not in path:
            array = array * (1.0 + np.exp(-kind.starts["bias_readjust"]))
        np.testing.assert_allclose(after[path], array, rtol=1e-6)
    assert len(after) == len(held) + added
    assert np.allclose(numpy(new(x)), before, atol=1e-5) == preserve
    assert model.compiled and not new.compiled
    np.testing.assert_array_equal(numpy(model(x)), before)  # the model itself is as it was
    with pytest.raises(ValueError, match="no BatchNorm layer to convert"):
        convert(new, skip="shortcut")


@BOTH
def test_a_copy_trains_and_the_model_stays_as_it_is(kind, convert, revert):
    model = network()
    model.get_layer("twice").trainable = False
    x = last(numbers((4, CHANNELS, 6, 6), 3))
    before, new = numpy(model(x)), convert(model)
    new.compile("sgd", "mse")
    new.fit(x, numbers((4, CHANNELS), 4), verbose=0)
    moved = by_path(new)
    for name, start in kind.starts.items():
        assert (moved[f"inner/norm/{name}"] != start).any() and (moved[f"twice/{name}"] == start).all()
    np.testing.assert_array_equal(numpy(model(x)), before)


@BOTH
def test_a_copy_is_copied_back(kind, convert, revert):
    model = network()
    back = revert(convert(model))
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


@BOTH
def test_attention_that_is_alike_for_all_samples_folds(kind, convert, revert):
    x = last(numbers((4, CHANNELS, 6, 6), 3))
    model = convert(network())
    model.get_layer("twice").bias_readjust.assign(numbers(CHANNELS, 5))
    before = numpy(model(x))
    back = revert(model, preserve_output=True)
    assert type(back.get_layer("twice")) is layers.BatchNormalization
    np.testing.assert_allclose(numpy(back(x)), before, atol=1e-6)
    getattr(model.get_layer("twice"), [*kind.starts][-1 if kind is RBN else 0]).assign(np.ones(CHANNELS))
    back = revert(model, preserve_output=True)
    assert type(back.get_layer("twice")) is kind
    assert type(back.get_layer("shortcut")) is layers.BatchNormalization
    with pytest.raises(ValueError, match=f"no {kind.__name__} layer: nothing to revert"):
        revert(network())


@BOTH
def test_a_converted_model_is_saved_and_loaded(tmp_path, kind, convert, revert):
    x = last(numbers((4, CHANNELS, 6, 6), 3))
    model = convert(network())
    for name in kind.starts:
        getattr(model.get_layer("twice"), name).assign(numbers(CHANNELS, 5))
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert type(loaded.get_layer("twice")) is kind
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))
    model.save_weights(tmp_path / "net.weights.h5")
    fresh = convert(network())
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
    model = keras.Sequential([keras.Input((4,)), Loud(2), layers.BatchNormalization()])
    new = convert_iebn(model, also={Loud: IEBN.from_batchnorm}, preserve_output=True)
    x = np.linspace(-1.0, 1.0, 8, dtype="f").reshape(2, 4)
    np.testing.assert_allclose(numpy(new(x)), numpy(model(x)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="matches no layer"):
        convert_iebn(model, skip="there_is_none")


def test_models_of_code_are_refused_or_copied_as_plain_ones():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()

        def call(self, x):
            return self.norm(x)

    for kind, convert in (("IEBN", convert_iebn), ("RBN", convert_rbn)):
        words = rf"got Net, whose own code runs its layers: write mixlayers\.keras\.{kind} .* by {kind}\.from_batchnorm"
        with pytest.raises(TypeError, match=words):
            convert(Net())

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


def test_decay_leaves_alone_what_batch_normalization_has_not():
    model = convert_rbn(convert_iebn(network(), skip="twice"))
    others, attention = iebn_parameters(model)
    assert sorted(weight.name for weight in attention) == (
        ["bias_readjust"] * 3 + ["weight_readjust"] * 3 + ["weight_recenter"]
    )
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
    with pytest.raises(ValueError, match="no IEBN or RBN that is built"):
        iebn_parameters(network())
