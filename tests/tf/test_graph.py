"""What is TensorFlow's own: one trace for all plans, data sets, what cannot be mixed."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import mixlayers.keras as mixing
from mixlayers import (
    CutMix,
    DropBlock,
    ManifoldMixup,
    MixingError,
    MixStyle,
    Mixup,
    OneOf,
    PatchUp,
    Scheduled,
)
from mixlayers_keras._engine import ENGINE
from tests.keras.keras_nets import batch, by_hand, close, compiled, seeded, sequential, weights

METHOD = OneOf(
    [ManifoldMixup(prob=0.5), PatchUp("hard", block_size=3), CutMix(), DropBlock(0.2, 2, every_place=True)]
)


def counting():
    """A model, and a list that grows where it is traced."""
    traced = []

    class Counting(layers.Layer):
        def call(self, x):
            traced.append(x.shape)
            return x

    seeded()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="one"),
            Counting(),
            layers.Conv2D(4, 3, name="two"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    return model, traced


def test_a_method_that_stands_in_two_acts_once():
    (x, y), method = batch(), OneOf([Mixup(), Scheduled(Mixup(), stop=9)])
    model = compiled(mixing.wrap(sequential(), method))
    model.train_on_batch(x, y)
    close(weights(model), by_hand(sequential(), method, "input", x, y))


def test_one_trace_serves_all_places_and_methods():
    model, traced = counting()
    x, y = batch(100)
    compiled(mixing.wrap(model, METHOD, ["input", "one", "two"]))
    model.fit(x[:4], y[:4], batch_size=4, verbose=0)
    assert traced
    traced.clear()
    model.fit(x, y, batch_size=4, verbose=0)
    history = mixing.get_mixer(model).history
    assert not traced and set(history.counts) == {"input", "one", "two", None} and history.steps == 26
    model.fit(x[:30], y[:30], batch_size=4, verbose=0)  # an odd last batch
    assert len(traced) == 1
    for size in (3, 5, 6):
        model.fit(x[:size], y[:size], batch_size=size, verbose=0)
    assert len(traced) == 1


def test_masks_are_for_the_shapes_of_the_audit():
    seeded()
    net = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(4, 3, name="one"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    x, y = batch()
    model = compiled(mixing.wrap(net, PatchUp(block_size=3), "one", example=x))
    model.train_on_batch(x, y)
    with pytest.raises((MixingError, tf.errors.InvalidArgumentError)):
        model.train_on_batch(x[:, :7], y)


@pytest.mark.parametrize("steps", [1, 3])
def test_data_sets_are_mixed_in_their_order(steps):
    x, y = batch(22)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    models = [compiled(mixing.wrap(sequential(), METHOD, ["one", "two"])) for _ in range(2)]
    compiled(models[1], steps_per_execution=steps)
    for at in range(0, 22, 4):
        models[0].train_on_batch(x[at : at + 4], y[at : at + 4])
    models[1].fit(data, shuffle=False, verbose=0)
    close(weights(models[1]), weights(models[0]))
    assert [mixing.get_mixer(model).step for model in models] == [6, 6]
    models[1].fit(data.repeat(), steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    assert mixing.get_mixer(models[1]).step == 12


def test_a_plan_that_would_be_baked_in_is_refused():
    x, y = batch()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)  # autograph has errors of its own
    with pytest.raises(Exception, match="would be baked in"):
        data.map(lambda x, y: mixing.mix(x, y, CutMix())[0])
    model = compiled(mixing.wrap(sequential(), ManifoldMixup(), "one"))
    with pytest.raises(Exception, match="would be baked in"):
        tf.function(model.train_step)((tf.constant(x), tf.constant(y)))
    assert set(model.train_step((tf.constant(x), tf.constant(y)))) == {"loss"}  # eagerly each has its own


def test_several_devices_are_refused():
    model = SimpleNamespace(distribute_strategy=SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(ValueError, match="splits the batch over 2 devices"):
        ENGINE.check_compiled(model)


def test_what_runs_in_a_loop_is_no_place():
    seeded()
    net = keras.Sequential(
        [keras.Input((6, 3)), layers.RNN(layers.LSTMCell(5, name="cell"), name="read"), layers.Dense(4)]
    )
    report = mixing.audit(net, np.zeros((4, 6, 3), np.float32))
    assert "loop or branch" in report["read.cell"].reason and report["read"].true


def test_style_and_noise_take_no_numbers_from_tensorflow():
    """Another plan's random numbers are none of the model's: equal seeds, equal dropout."""
    x, _ = batch()
    tf.random.set_seed(3)
    expected = tf.random.normal([3])
    tf.random.set_seed(3)
    mixing.mix(x, np.arange(8), MixStyle())
    np.testing.assert_array_equal(tf.random.normal([3]), expected)
