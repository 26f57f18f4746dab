"""Losses and metrics of mixed targets, in every framework, against NumPy."""

import numpy as np
import pytest
import scipy.special

from mixlayers import CutMix, Mixup
from mixlayers._core.labels.metrics import calibration_error
from tests.support.everywhere import everywhere

pytestmark = everywhere

METHODS = [Mixup(), Mixup(lam_per="sample"), CutMix()]


def mixed(fw, method, labels):
    """The logits, (12, 5), and a mixed target with the NumPy shares that it must have."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(12, 5)).astype(np.float32)
    images = rng.normal(size=(12, 2, 6, 6)).astype(np.float32)
    _, target = fw.face.mix(fw.tensor(images), fw.tensor(labels), method, step=4)
    s = np.broadcast_to(target.plan.blend(images.shape).s, 12)[:, None]
    hot = labels if labels.ndim == 2 else np.eye(5)[labels]
    return logits, target, (1 - s) * hot + s * hot[target.plan.perm]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("several", [False, True], ids=["one class", "several"])
@pytest.mark.parametrize("arguments", [{}, {"label_smoothing": 0.1}, {"target_threshold": 0.2}], ids=repr)
def test_binary_cross_entropy(fw, method, several, arguments):
    rng = np.random.default_rng(1)
    labels = (rng.random((12, 5)) < 0.4).astype(np.float32) if several else np.arange(12) % 5
    logits, target, soft = mixed(fw, method, labels)
    epsilon = arguments.get("label_smoothing", 0.0)
    soft = (1 - epsilon) * soft + epsilon / 5
    if "target_threshold" in arguments:
        soft = (soft > arguments["target_threshold"]).astype(float)
    expected = (np.logaddexp(0, logits.astype(np.float64)) - soft * logits).mean()
    loss = fw.face.binary_cross_entropy(fw.tensor(logits), target, **arguments)
    assert fw.numpy(loss) == pytest.approx(expected, rel=1e-5)
    gradient = fw.gradient(
        lambda x: fw.face.binary_cross_entropy(x, target, **arguments), fw.tensor(logits), np.ones(())
    )
    np.testing.assert_allclose(gradient, (scipy.special.expit(logits) - soft) / soft.size, atol=1e-7)


@pytest.mark.parametrize(
    "labels", [np.arange(12) % 5, np.eye(5, dtype=np.float32)[np.arange(12) % 5]], ids=["indices", "soft"]
)
def test_plain_targets_and_mixed_ones_take_the_same_functions(fw, labels):
    logits = np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)
    output, hot = fw.tensor(logits), np.eye(5)[np.arange(12) % 5]
    expected = (np.logaddexp(0, logits.astype(np.float64)) - hot * logits).mean()
    loss = fw.face.binary_cross_entropy(output, fw.tensor(labels))
    assert fw.numpy(loss) == pytest.approx(expected, rel=1e-5)
    right = logits.argmax(1) == np.arange(12) % 5
    confidence = scipy.special.softmax(logits.astype(np.float64), axis=1).max(1)
    found = fw.face.calibration_error(output, fw.tensor(labels))
    assert found == pytest.approx(calibration_error(confidence, right), abs=1e-7)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("topk", [1, 2, 5])
def test_topk_accuracy(fw, method, topk):
    labels = np.arange(12) % 5
    logits, target, _ = mixed(fw, method, labels)
    best = np.argsort(-logits, axis=1)[:, :topk]
    first, second = ((best == y[:, None]).any(1) for y in (labels, labels[target.plan.perm]))
    s = target.plan.blend((12, 2, 6, 6)).s
    found = fw.face.accuracy(fw.tensor(logits), target, topk)
    assert fw.numpy(found) == pytest.approx(((1 - s) * first + s * second).mean(), abs=1e-6)
    assert not target.used, "a metric is no loss"


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_calibration_error_counts_shares(fw, method):
    logits, target, soft = mixed(fw, method, np.arange(12) % 5)
    confidence = scipy.special.softmax(logits.astype(np.float64), axis=1).max(1)
    right = soft[np.arange(12), logits.argmax(1)]
    found = fw.face.calibration_error(fw.tensor(logits), target, bins=4)
    assert found == pytest.approx(calibration_error(confidence, right, bins=4), abs=1e-6)
    assert not target.used


def test_smoothing_before_or_after_mixing_is_the_same(fw):
    """Article 003's form smooths the one-hot labels and then mixes; a loss's label_smoothing comes after."""
    labels = np.arange(12) % 5
    logits, target, soft = mixed(fw, Mixup(), labels)
    smooth = 0.9 * np.eye(5)[labels] + 0.1 / 5
    _, before = fw.face.mix(
        fw.tensor(np.zeros((12, 2, 6, 6), np.float32)), fw.tensor(smooth.astype(np.float32)), Mixup(), step=4
    )
    expected = -((0.9 * soft + 0.1 / 5) * scipy.special.log_softmax(logits, axis=1)).sum(1).mean()
    for loss in (
        fw.face.cross_entropy(fw.tensor(logits), target, label_smoothing=0.1),
        fw.face.cross_entropy(fw.tensor(logits), before),
        fw.face.cross_entropy(fw.tensor(logits), target.soft(5, smoothing=0.1)),
    ):
        assert fw.numpy(loss) == pytest.approx(expected, rel=1e-5)


def test_refusals(fw):
    output, labels = fw.tensor(np.zeros((4, 3), np.float32)), fw.tensor(np.arange(4) % 3)
    for topk in (0, 4):
        with pytest.raises(ValueError, match=rf"topk must be in \[1, K\].* got {topk} for \(4, 3\)"):
            fw.face.accuracy(output, labels, topk)
    with pytest.raises(ValueError, match=r"target_threshold must be in \[0, 1\), got 1.0: None keeps"):
        fw.face.binary_cross_entropy(output, labels, target_threshold=1.0)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0: 15 is usual"):
        fw.face.calibration_error(output, labels, bins=0)
    with pytest.raises(ValueError, match=r"output must be logits of shape \(N, K\), got shape \(4,\)"):
        fw.face.calibration_error(labels, labels)
