"""What is done to tensors, beside NumPy's doing it: acts, losses, metrics, boxes."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

import mixlayers.keras as mixing
from mixlayers import (
    DSU,
    CutMix,
    Erasing,
    FMix,
    GMix,
    HMix,
    ManifoldMixup,
    MixStyle,
    Mixup,
    MoEx,
    PatchUp,
    ResizeMix,
    SpecMix,
)
from mixlayers._core.batch.functions import BatchFunctions
from mixlayers._core.framework.numpy_arrays import NUMPY
from tests.keras.keras_nets import batch

HOST = BatchFunctions(NUMPY, -100)
METHODS = [
    Mixup(lam_per="sample"), CutMix(), FMix(), GMix(), HMix(), SpecMix(), ResizeMix(), PatchUp("hard", block_size=3),
    Erasing(), MixStyle(prob=1.0), MoEx(), DSU(prob=1.0),
]  # fmt: skip


@pytest.mark.parametrize("channel_dim", [1, -1])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_batches_are_mixed_as_numpy_mixes_them(method, channel_dim):
    x, y = batch()
    options = {"step": 2, "seed": 5, "channel_dim": channel_dim}
    ours, target = mixing.mix(x, y, method, **options)
    theirs, expected = HOST.mix(x, y, method, **options)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert tf.is_tensor(ours) and np.allclose(target.s, expected.s)
    np.testing.assert_array_equal(target.partner, expected.partner)
    np.testing.assert_allclose(target.soft(4), expected.soft(4), atol=1e-6)


def rows(target, classes):
    hot = np.eye(classes, dtype=np.float64)
    s = np.reshape(target.s, (-1, 1))
    return (1 - s) * hot[np.asarray(target.y)] + s * hot[np.asarray(target.partner)]


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("traced", [False, True])
def test_losses_are_those_of_the_soft_labels(lam_per, traced):
    x, y = batch()
    _, target = mixing.mix(x, y, ManifoldMixup(lam_per=lam_per), step=1)
    logits = np.random.default_rng(0).standard_normal((8, 4))
    weight = np.array([1.0, 2.0, 0.5, 3.0])
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    soft = rows(target, 4)
    smooth = 0.9 * soft + 0.1 / 4
    maybe = tf.function if traced else lambda f: f
    output = tf.constant(logits, tf.float32)
    found = [
        maybe(partial(mixing.cross_entropy, target=target, **given))(output).numpy()
        for given in ({}, {"label_smoothing": 0.1, "reduction": "none"}, {"weight": weight})
    ]
    np.testing.assert_allclose(found[0], -(soft * logs).sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(found[1], -(smooth * logs).sum(1), rtol=1e-5)
    np.testing.assert_allclose(found[2], -(soft * logs * weight).sum() / (soft @ weight).sum(), rtol=1e-5)
    each = np.log1p(np.exp(logits)) - soft * logits
    binary = maybe(lambda o: mixing.binary_cross_entropy(o, target))(output)
    np.testing.assert_allclose(binary, each.mean(), rtol=1e-5)
    hits = (np.eye(4)[logits.argmax(1)] * soft).sum(1).mean()
    accuracy = maybe(lambda o: mixing.accuracy(o, target))(output)
    np.testing.assert_allclose(accuracy, hits, rtol=1e-5)


def test_labels_that_do_not_count():
    y = np.array([0, -100, 2, -100])
    logits = tf.constant(np.random.default_rng(0).standard_normal((4, 3)), tf.float32)
    expected = keras.losses.sparse_categorical_crossentropy(y[::2], logits[::2], from_logits=True)
    np.testing.assert_allclose(mixing.cross_entropy(logits, y), np.mean(expected), rtol=1e-5)
    assert float(mixing.accuracy(logits, y)) == np.mean(np.argmax(logits[::2], 1) == y[::2])
    with pytest.raises(ValueError, match=r"must be in \[0, 3\), got 7"):
        mixing.cross_entropy(logits, np.array([0, 1, 2, 7]))
    assert 0.0 <= mixing.calibration_error(logits, np.array([0, 1, 2, 1])) <= 1.0
    assert mixing.temperature(logits, np.argmax(logits, 1) * 0) > 0.0


def test_gradients_go_through_a_mixed_batch():
    x, y = batch()
    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        mixed, target = mixing.mix(given, y, Mixup(), step=0)
        total = tf.reduce_sum(mixed * tf.range(8.0)[:, None, None, None])
    lam, perm = 1.0 - target.s, target.plan.perm
    each = lam * np.arange(8.0) + (1.0 - lam) * np.argsort(perm)
    np.testing.assert_allclose(tape.gradient(total, given)[:, 0, 0, 0], each, rtol=1e-5)


@pytest.mark.parametrize("method", [Mixup(), CutMix()], ids=repr)
def test_boxes_are_numpys(method):
    images = np.random.default_rng(0).random((4, 8, 10, 3)).astype("f")
    boxes, labels = [np.array([[1.0, 2, 8, 7], [0, 0, 3, 3]], "f")] * 4, [np.arange(2)] * 4
    ours, found = mixing.mix_detection(images, boxes, labels, method, step=4, min_visible=0.2)
    theirs, expected = HOST.mix_detection(
        images, boxes, labels, method, step=4, min_visible=0.2, channel_dim=-1
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        for part, known in zip(one, other, strict=True):
            np.testing.assert_allclose(part, known)
