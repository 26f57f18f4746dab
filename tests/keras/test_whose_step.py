"""Whose step labels and calls belong to: what other threads, nested calls and other labels meet."""

from threading import Thread

import keras
import numpy as np
import pytest
from keras import layers, ops

import mixlayers.keras as mixing
from mixlayers import ManifoldMixup, MixingError, Mixup
from tests.keras.keras_nets import (
    BACKEND,
    batch,
    by_hand,
    close,
    compiled,
    cross_entropy,
    mixed_by_hand,
    seeded,
    sequential,
    stepped,
    weights,
)
from tests.keras.test_own_step import Blending, Own, owned


class Asking(Own):
    """Asks for labels of its batch in several nestings, and for others."""

    def value(self, y, y_pred):
        mixer, other = mixing.get_mixer(self), ops.zeros_like(y["kind"])
        for labels in (y, y["kind"], (y["size"], {"again": [y["kind"]]})):
            assert mixer.target(labels).mixed
        for labels in (other, {"kind": other}):
            with pytest.raises(MixingError, match="the labels are not the tensors of the step's batch"):
                mixer.target(labels)
        assert not mixer.target(None).mixed
        with pytest.raises(MixingError, match="1 of 2 labels are not the tensors of the step's batch"):
            mixer.target((y["kind"], other))
        target = mixer.target({"of": y["kind"]})
        return target.blend(lambda labels: ops.mean(cross_entropy(y_pred, labels["of"])))


@pytest.mark.parametrize(("method", "place"), [(ManifoldMixup(), "one"), (Mixup(), "input")], ids=str)
def test_labels_are_known_by_the_tensors_of_the_batch(method, place):
    x, y = batch()
    expected = by_hand(sequential(), method, place, x, y)
    model = mixing.wrap(owned(Asking), method, place)
    compiled(model, loss=None).train_on_batch(x, {"kind": y, "size": np.ones(8, np.float32)})
    close(weights(model), expected)


class Smoothing(keras.Model):
    """Makes other labels of the batch's, and gives those to the losses of compile."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, ops.one_hot(y, 4), y_pred, sample_weight, training)


class Sharing(keras.Model):
    """With a compute_loss of its own, which evaluation shares."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return mixing.get_mixer(self).target(y).blend(lambda y: ops.mean(cross_entropy(y_pred, y)))


def test_labels_that_are_made_of_the_batchs_are_refused():
    model = compiled(mixing.wrap(owned(Smoothing), ManifoldMixup(), "one"), loss="mse")
    with pytest.raises(MixingError, match="Give both the batch's own label tensors"):
        model.train_on_batch(*batch())


def test_a_loss_of_ones_own_is_plain_in_evaluation():
    (x, y), method = batch(), ManifoldMixup()
    expected = by_hand(sequential(), method, "one", x, y)
    model = compiled(mixing.wrap(owned(Sharing), method, "one"))
    logs = model.fit(x, y, validation_data=(x, y), batch_size=8, shuffle=False, verbose=0).history
    close(weights(model), expected)
    plain = compiled(sequential())
    plain.set_weights(model.get_weights())
    assert logs["val_loss"] == pytest.approx([plain.evaluate(x, y, verbose=0)], rel=1e-5)


@pytest.mark.parametrize("place", ["code", "input"])
def test_what_is_its_own_label(place):
    """An autoencoder's label is the image as it came, and its partner's."""
    x, method = np.random.default_rng(0).standard_normal((8, 6), dtype=np.float32), ManifoldMixup()

    def net():
        seeded()
        return keras.Sequential(
            [keras.Input((6,)), layers.Dense(3, name="code"), layers.Dense(6, name="back")]
        )

    plan, plain = method.plan(step=0, batch_size=8, places=[place]), net()

    def value():
        h = mixed_by_hand(x, plan)[0] if place == "input" else ops.convert_to_tensor(x)
        h = plain.layers[0](h)
        output = plain.layers[1](mixed_by_hand(h, plan)[0] if place == "code" else h)
        one, other = (ops.mean((output - ops.convert_to_tensor(y)) ** 2) for y in (x, x[plan.perm]))
        return plan.lam * one + (1 - plan.lam) * other

    expected = stepped(plain, value)
    model = compiled(mixing.wrap(net(), method, place), loss="mse")
    given = ops.convert_to_tensor(x)
    model.train_on_batch(given, given)
    close(weights(model), expected)


def meanwhile(model, do):
    """While the model's next step is made: do() in a thread of its own. Returns what it returned or raised."""
    head, found = model.get_layer("head"), []
    call = head.call

    def run():
        try:
            found.append(do())
        except MixingError as error:
            found.append(error)

    def calling(h, **given):
        object.__delattr__(head, "call")
        thread = Thread(target=run)
        thread.start()
        thread.join()
        return call(h, **given)

    object.__setattr__(head, "call", calling)
    return found


def test_what_another_thread_asks_of_the_model_is_not_mixed():
    (x, y), method = batch(), ManifoldMixup()
    expected = by_hand(sequential(), method, "one", x, y)
    model = compiled(mixing.wrap(sequential(), method, "one"))
    model.evaluate(x, y, verbose=0)  # so that all is built
    before = ops.convert_to_numpy(model(x))
    found = meanwhile(model, lambda: ops.convert_to_numpy(model(x, training=True)))
    model.train_on_batch(x, y)
    close(weights(model), expected)
    np.testing.assert_allclose(found[0], before, rtol=1e-6)


def test_two_threads_that_train_one_model_are_refused():
    (x, y), method = batch(), ManifoldMixup()
    expected = by_hand(sequential(), method, "one", x, y)
    eager = BACKEND == "tensorflow"  # which traces one by one, as JAX compiles equal steps
    model = compiled(mixing.wrap(sequential(), method, "one"), run_eagerly=eager)
    model.evaluate(x, y, verbose=0)
    found = meanwhile(model, lambda: model.train_on_batch(x[:4], y[:4]))
    model.train_on_batch(x, y)
    assert "'one' is being mixed by another step" in str(found[0])
    close(weights(model), expected)


class Nested(Blending):
    """Trains itself within its training step."""

    def value(self, y, y_pred):
        self.train_on_batch(*batch(4))
        return super().value(y, y_pred)


def test_a_step_inside_of_a_step_is_refused():
    x, y = batch()
    model = compiled(mixing.wrap(owned(Nested), ManifoldMixup(), "one"))
    kinds = [type(layer) for layer in model.layers]
    eager = "begun inside of another one of the same model"
    why = {"torch": eager}.get(BACKEND, "a plan drawn while .* traces")
    with pytest.raises(MixingError, match=why):
        model.train_on_batch(x, y)
    assert [type(layer) for layer in model.layers] == kinds
    assert not any("_mixlayers" in name for layer in model.layers for name in vars(layer))


class Looking(Blending):
    """Calls itself once more within its training step, after the loss."""

    def value(self, y, y_pred):
        found = super().value(y, y_pred)
        self([batch()[0]], training=False)
        return found


def test_a_second_call_within_a_step_is_refused():
    x, y = batch()
    model = compiled(mixing.wrap(owned(Looking), ManifoldMixup(), "one"))
    with pytest.raises(MixingError, match="'one' ran 2 times in one step"):
        model.train_on_batch(x, y)


class Holding(keras.Model):
    """Holds another model, which it calls in its own call, or in its training step alone."""

    def __init__(self, inner, *, aside=None):
        super().__init__()
        self.inner, self.aside, self.head = inner, aside, layers.Dense(4)

    def call(self, x, training=None):
        return self.head(self.inner(x) if self.aside is None else x[:, 0, 0])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self.aside is not None:
            y_pred = y_pred + self.inner(x, training=self.aside)
        return super().compute_loss(x, y, y_pred, sample_weight, training)


@pytest.mark.parametrize("aside", [None, True, False])
def test_a_wrapped_model_that_another_one_trains_is_refused(aside):
    (x, y), inner = batch(), sequential()
    mixing.wrap(inner, ManifoldMixup(), "one")
    model = compiled(Holding(inner, aside=aside))
    model(x)
    model.evaluate(x, y, verbose=0)
    if aside is False:  # a teacher, which nobody trains
        model.train_on_batch(x, y)
        return
    with pytest.raises(
        MixingError, match=r"the wrapped model 'sequential.*' was called in a training step of 'holding"
    ):
        model.train_on_batch(x, y)
    inner(x, training=True)
    mixing.unwrap(inner)
    assert "call" not in vars(inner)
    if aside is None:
        mixing.wrap(model, ManifoldMixup(), f"{inner.name}.one")
    assert model.train_on_batch(x, y) > 0


def test_losses_are_blended_however_often_a_model_is_compiled():
    (x, y), method = batch(), ManifoldMixup()
    expected = by_hand(sequential(), method, "one", x, y)
    model = compiled(mixing.wrap(sequential(), method, "one"))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    first = type(model._compile_loss)
    close(weights(model), expected)
    model.set_weights(sequential().get_weights())
    mixing.get_mixer(model).load_state_dict({"step": 0})
    compiled(model).fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)
    mixing.unwrap(model)
    assert type(model._compile_loss) is not first and type(model._compile_loss).__module__.startswith(
        "keras."
    )
    assert model.evaluate(x, y, verbose=0) > 0
