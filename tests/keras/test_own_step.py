"""A train_step of one's own, whose loss asks the mixer for its target."""

import keras
import pytest
from keras import ops

import mixlayers.keras as mixing
from mixlayers import ManifoldMixup, MixingError, Mixup
from tests.keras.keras_nets import (
    BACKEND,
    batch,
    by_hand,
    close,
    compiled,
    cross_entropy,
    sequential,
    weights,
)


class Own(keras.Model):
    """With a training step of its own, for any backend, whose loss is `value(y, y_pred)`."""

    def train_step(self, *args):
        *state, data = args
        x, y = data[0], data[1]
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                found = self.value(y, self(x, training=True))
            self.optimizer.apply(tape.gradient(found, self.trainable_weights), self.trainable_weights)
            return {"loss": found}
        if BACKEND == "torch":
            self.zero_grad()
            found = self.value(y, self(x, training=True))
            found.backward()
            variables = self.trainable_variables
            import torch

            with torch.no_grad():
                self.optimizer.apply([variable.value.grad for variable in variables], variables)
            return {"loss": found}
        import jax

        trainable, others, optimizer, metrics = state[0]

        def value(trainable):
            y_pred, own = self.stateless_call(trainable, others, x, training=True)
            return self.value(y, y_pred), own

        (found, others), gradients = jax.value_and_grad(value, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"loss": found}, (trainable, others, optimizer, metrics)


class Blending(Own):
    def value(self, y, y_pred):
        target = mixing.get_mixer(self).target(y)
        return target.blend(lambda y: ops.mean(cross_entropy(y_pred, y)))


class Forgetting(Own):
    def value(self, y, y_pred):
        return ops.mean(cross_entropy(y_pred, y))


def owned(kind):
    net = sequential()
    return kind(net.inputs, net.outputs)


@pytest.mark.parametrize(("method", "place"), [(ManifoldMixup(), "one"), (Mixup(), "input")], ids=str)
def test_a_training_step_of_ones_own_asks_for_its_target(method, place):
    x, y = batch()
    expected = by_hand(sequential(), method, place, x, y)
    model = compiled(mixing.wrap(owned(Blending), method, place))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)


def test_a_loss_that_does_not_use_the_target_is_refused():
    x, y = batch()
    model = compiled(mixing.wrap(owned(Forgetting), ManifoldMixup(), "one"))
    classes = [type(layer) for layer in model.layers]
    with pytest.raises(MixingError, match="did not use the mixed labels"):
        model.train_on_batch(x, y)
    assert [type(layer) for layer in model.layers] == classes
    assert mixing.get_mixer(model).target(y).blend(lambda y: y) is y
