"""Batches that are mixed before the model, losses and metrics of mixed targets."""

import keras
import numpy as np
import pytest
from keras import ops

import mixlayers.keras as mixing
from mixlayers import CutMix, Mixup
from tests.keras.keras_nets import batch


def test_collated_batches_are_mixed_with_their_labels():
    x, y = batch(8)
    collate = mixing.MixCollate(CutMix(), num_classes=4, seed=2)
    mixed, soft = collate(list(zip(x, y, strict=True)))
    plan = CutMix().plan(step=0, batch_size=8, seed=2)
    how = plan.blend(x.shape, -1)
    np.testing.assert_array_equal(mixed, np.where(how.mask, x[plan.perm], x))
    hot = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(soft, (1 - how.s) * hot[y] + how.s * hot[y[plan.perm]], atol=1e-6)
    assert type(mixed) is np.ndarray and soft.dtype == np.float32


def test_a_batch_is_mixed_for_a_loop_of_ones_own():
    x, y = batch()
    plan = Mixup().plan(step=3, batch_size=8)
    mixed, target = mixing.mix(x, y, Mixup(), step=3)
    lam = np.float32(plan.lam)
    np.testing.assert_allclose(ops.convert_to_numpy(mixed), lam * x + (1 - lam) * x[plan.perm], atol=1e-6)
    output = np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32)
    logits = ops.convert_to_tensor(output)
    each = [
        ops.convert_to_numpy(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        for labels in (y, y[plan.perm])
    ]
    loss = mixing.cross_entropy(logits, target)
    assert float(loss) == pytest.approx(np.mean(lam * each[0] + (1 - lam) * each[1]), rel=1e-5)
    hits = [output.argmax(1) == labels for labels in (y, y[plan.perm])]
    right = np.mean(lam * hits[0] + (1 - lam) * hits[1])
    assert float(mixing.accuracy(logits, target)) == pytest.approx(right, rel=1e-5)
    assert 0.0 <= mixing.calibration_error(logits, target) <= 1.0


def test_classes_are_on_the_last_axis():
    rng = np.random.default_rng(0)
    output, y = rng.standard_normal((6, 5, 3), dtype=np.float32), rng.integers(3, size=(6, 5))
    logits, labels = ops.convert_to_tensor(output), ops.convert_to_tensor(y)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert float(mixing.cross_entropy(logits, labels)) == pytest.approx(float(expected), rel=1e-5)
    assert float(mixing.accuracy(logits, labels)) == pytest.approx((output.argmax(-1) == y).mean(), rel=1e-6)
    hot = ops.convert_to_tensor(np.eye(3, dtype=np.float32)[y])
    plain = keras.losses.BinaryCrossentropy(from_logits=True)(hot, logits)
    assert float(mixing.binary_cross_entropy(logits, hot)) == pytest.approx(float(plain), rel=1e-5)
    assert tuple(mixing.binary_cross_entropy(logits, hot, reduction="none").shape) == (6, 5, 3)
