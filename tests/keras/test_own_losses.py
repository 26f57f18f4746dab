"""What a loss must be where shares differ from sample to sample, and that nothing is written to it."""

import keras
import pytest
from keras import ops

import mixlayers.keras as mixing
from mixlayers import ManifoldMixup
from tests.keras.keras_nets import batch, compiled, cross_entropy, loss, sequential


def test_a_reduction_that_divides_by_the_shares_is_refused():
    x, y = batch()
    model = mixing.wrap(sequential(), ManifoldMixup(lam_per="sample"), "one")
    compiled(model, loss=loss(reduction="mean_with_sample_weight"))
    with pytest.raises(ValueError, match="divides by the weights"):
        model.fit(x, y, verbose=0)


def mean_of_all(y, y_pred):
    return ops.mean(cross_entropy(y_pred, y))


def each_number(y, y_pred):
    return ops.square(y_pred)


class MeanOfAll(keras.losses.Loss):
    def call(self, y, y_pred):
        return mean_of_all(y, y_pred)


@pytest.mark.parametrize(
    "own", [mean_of_all, MeanOfAll(), each_number], ids=["function", "class", "elements"]
)
def test_a_loss_without_a_value_for_each_sample_is_refused_where_shares_differ(own):
    x, y = batch()
    model = compiled(mixing.wrap(sequential(), ManifoldMixup(lam_per="sample"), "one"), loss=own)
    with pytest.raises(ValueError, match=r"needs one value for each, shape \(8,\), got shape"):
        model.train_on_batch(x, y)
    mixing.unwrap(model)
    mixing.wrap(model, ManifoldMixup(), "one")
    model.train_on_batch(x, y)  # one share for all
    model.evaluate(x, y, verbose=0)


class Noting(keras.losses.Loss):
    def call(self, y, y_pred):
        self.has = {*vars(self)}
        return cross_entropy(y_pred, y)


def test_a_loss_is_not_written_to_while_a_step_is_made():
    """Another thread may train with it; what it writes to itself stays."""
    own, (x, y) = Noting(), batch()
    names = {*vars(own), "has"}
    compiled(mixing.wrap(sequential(), ManifoldMixup(lam_per="sample"), "one"), loss=own).fit(x, y, verbose=0)
    assert own.has <= {*vars(own)} == names
