"""Batches that are mixed before the model, in tf.data and in Grain."""

import grain
import keras
import numpy as np
import pytest
import tensorflow as tf

import mixlayers.keras as mixing
from mixlayers import CutMix
from tests.keras.keras_nets import batch, compiled, sequential

pytestmark = pytest.mark.filterwarnings(
    "ignore:Your input ran out of data"
)  # of any data that cannot tell its length
SOFT = keras.losses.CategoricalCrossentropy(from_logits=True)


def by_hand(x, y, step):
    plan = CutMix().plan(step=step, batch_size=len(x), seed=2)
    how = plan.blend(x.shape, -1)
    hot = np.eye(4, dtype=np.float32)
    return np.where(how.mask, x[plan.perm], x), (1 - how.s) * hot[y] + how.s * hot[y[plan.perm]]


def check(batches, x, y):
    """Two batches of eight, mixed by the first two plans."""
    for step, (images, labels) in enumerate(batches):
        part = slice(8 * step, 8 * step + 8)
        mixed, soft = by_hand(x[part], y[part], step)
        np.testing.assert_array_equal(images, mixed)
        np.testing.assert_allclose(labels, soft, atol=1e-6)
    assert step == 1


def test_tf_data_mixes_in_a_generator():
    x, y = batch(16)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    collate = mixing.MixCollate(CutMix(), num_classes=4, seed=2)

    def mixed():
        for images, labels in batches.as_numpy_iterator():
            yield collate(list(zip(images, labels, strict=True)))

    signature = tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((None, 4))
    data = tf.data.Dataset.from_generator(mixed, output_signature=signature).prefetch(1)
    check(data, x, y)
    logs = compiled(sequential(), loss=SOFT).fit(data, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(logs["loss"]).all()


def test_grain_mixes_as_it_puts_batches_together():
    x, y = batch(16)
    collate = mixing.MixCollate(CutMix(), num_classes=4, seed=2)
    samples = grain.MapDataset.source(list(zip(x, y, strict=True)))
    data = samples.to_iter_dataset().batch(8, batch_fn=collate)
    check(data, x, y)
    logs = compiled(sequential(), loss=SOFT).fit(data, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
