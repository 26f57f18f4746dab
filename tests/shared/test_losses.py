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
@pytest.mark.parametrize(
    "arguments",
    [{}, {"label_smoothing": 0.1}, {"target_threshold": 0.2}, {"target_threshold": 0.0}],
    ids=repr,  # above 0 lies every class that a sample has a share of, and no other
)
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


def test_temperature_gives_the_labels_the_best_likelihood(fw):
    rng = np.random.default_rng(2)
    logits = 4 * rng.normal(size=(60, 5)).astype(np.float32)
    labels = np.where(rng.random(60) < 0.7, logits.argmax(1), rng.integers(5, size=60))

    def nll(temperature: float, rows: slice = slice(None)) -> float:
        scaled = scipy.special.log_softmax(logits[rows].astype(np.float64) / temperature, axis=1)
        return -scaled[np.arange(len(scaled)), labels[rows]].mean()

    found = fw.face.temperature(fw.tensor(logits), fw.tensor(labels))
    assert isinstance(found, float)
    assert nll(found) < min(nll(0.999 * found), nll(1.001 * found), nll(1.0))
    soft = np.eye(5, dtype=np.float32)[labels]
    assert fw.face.temperature(fw.tensor(logits), fw.tensor(soft)) == found
    ignoring = np.concatenate([labels[:50], np.full(10, -7)])
    some = fw.face.temperature(fw.tensor(logits), fw.tensor(ignoring), ignore_index=-7)
    assert nll(some, slice(50)) < min(nll(0.999 * some, slice(50)), nll(1.001 * some, slice(50)))


def test_metrics_take_bfloat16(fw):
    """NumPy has none: PyTorch raises there, and Paddle gives the bits as whole numbers."""
    if fw.name not in ("torch", "paddle"):
        return  # Chainer has none either, JAX brings NumPy's own
    logits = np.round(4 * np.random.default_rng(2).normal(size=(60, 5))).astype(
        np.float32
    )  # exact in bfloat16
    labels = np.arange(60) % 5
    labels[:40] = logits[:40].argmax(1)
    short = fw.tensor(logits, "bfloat16")
    for metric in (fw.face.temperature, fw.face.calibration_error):
        assert metric(short, fw.tensor(labels)) == metric(fw.tensor(logits), fw.tensor(labels))


def test_metrics_refuse_what_diverged(fw):
    labels = np.arange(12) % 5
    for bad in (np.nan, np.inf):
        logits = np.eye(5, dtype=np.float32)[labels]
        logits[3, 1] = bad
        for metric in (fw.face.temperature, fw.face.calibration_error):
            with pytest.raises(ValueError, match="rows that hold nan or inf"):
                metric(fw.tensor(logits), fw.tensor(labels))


def test_temperature_refuses_what_has_none(fw):
    labels = np.arange(12) % 5
    logits, target, _ = mixed(fw, Mixup(), labels)
    with pytest.raises(
        TypeError, match=r"images that are not mixed, got a MixedTarget: call the model in eval"
    ):
        fw.face.temperature(fw.tensor(logits), target)
    with pytest.raises(ValueError, match="needs a label that counts, got 12 that do not"):
        fw.face.temperature(fw.tensor(logits), fw.tensor(np.full(12, -3)), ignore_index=-3)
    with pytest.raises(ValueError, match=r"output must be logits of shape \(N, K\), got shape \(12,\)"):
        fw.face.temperature(fw.tensor(logits[:, 0]), fw.tensor(labels))
    certain = fw.tensor(np.eye(5, dtype=np.float32)[labels])
    with pytest.warns(UserWarning, match="every label has the highest score: 0.01 is the end of the range"):
        assert fw.face.temperature(certain, fw.tensor(labels)) == 0.01
    with pytest.warns(UserWarning, match="guessing would do no worse: 100 is the end"):
        fw.face.temperature(certain, fw.tensor((labels + 1) % 5))


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
