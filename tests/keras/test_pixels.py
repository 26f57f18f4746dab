"""Labels of pixels that follow a mask, where one class does not count."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import mixlayers.keras as mixing
from mixlayers import PatchUp
from tests.keras.keras_nets import (
    batch,
    close,
    compiled,
    cross_entropy,
    loss,
    mixed_by_hand,
    seeded,
    stepped,
    weights,
)

IGNORED = 2


def segmenting():
    seeded()
    return keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", activation="tanh", name="one"),
            layers.Conv2D(4, 1, name="head"),
        ]
    )


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_pixels_of_an_ignored_class_do_not_count(kind):
    method, (x, _) = PatchUp(kind, block_size=3), batch()
    y = np.random.default_rng(0).integers(4, size=(8, 8, 8))
    plan, plain = method.plan(step=0, batch_size=8, places=["one"]), segmenting()

    def value():
        one = plain.layers[0](x)
        how = plan.blend(tuple(one.shape), -1)
        share = np.broadcast_to((how.mask * (1 - how.lam)).mean(-1), y.shape)
        output, total = plain.layers[1](mixed_by_hand(one, plan)[0]), 0.0
        for labels, own in ((y, 1 - share), (y[plan.perm], share)):
            counts = labels != IGNORED
            each = cross_entropy(output, np.where(counts, labels, 0))
            total += ops.sum(ops.convert_to_tensor((own * counts).astype(np.float32)) * each) / counts.sum()
        return total * plan.loss_scale

    expected = stepped(plain, value)
    model = compiled(mixing.wrap(segmenting(), method, "one"), loss=loss(ignore_class=IGNORED))
    model.train_on_batch(x, y)
    close(weights(model), expected)
