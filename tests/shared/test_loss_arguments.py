"""The losses' arguments: on plain labels the framework's own loss, on mixed ones the blend of it."""

from importlib import import_module

import numpy as np
import pytest
import scipy.special
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixlayers import CutMix, Mixup

IGNORED = {"torch": -100, "paddle": -100, "chainer": -1}
COMMON = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
arguments = st.fixed_dictionaries(
    {
        "label_smoothing": st.sampled_from([0.0, 0.1, 0.7]),
        "weighted": st.booleans(),
        "ignore_index": st.sampled_from([None, 1, 255]),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
        "space": st.sampled_from([(), (3,), (2, 3)]),
        "soft": st.booleans(),
        "dtype": st.sampled_from(["float32", "float64", "float16"]),
        "method": st.sampled_from([None, Mixup(), Mixup(lam_per="sample")]),
        "seed": st.integers(0, 99),
    }
)


def kind(fw):
    return fw.name.partition("-")[0]


def drawn(fw, space, soft, ignore_index, seed, dtype, **_):
    """Logits (6, 4, *space), labels some of which do not count, weights."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.normal(size=(6, 4, *space))).astype(dtype)
    if soft:
        labels = scipy.special.softmax(rng.normal(size=logits.shape), axis=1)
        labels = labels.astype("float32" if dtype == "float16" else dtype)
    else:
        labels = rng.integers(4, size=(6, *space))
        if ignore_index == 255:
            labels[rng.random(labels.shape) < 0.3] = 255
    return logits, labels, rng.uniform(0.5, 2.0, 4)


def own(fw, logits, labels, weight, label_smoothing, ignore_index, reduction):
    """The framework's own loss of plain labels, in float64; where it has none (smoothing in Chainer), its formula."""
    logits, soft = logits.astype(np.float64), labels.dtype.kind == "f"
    labels = labels.astype(np.float64) if soft else labels
    if kind(fw) == "torch":
        torch = import_module("torch")
        loss = torch.nn.functional.cross_entropy(
            torch.tensor(logits),
            torch.tensor(labels),
            None if weight is None else torch.tensor(weight),
            ignore_index=-100 if soft else ignore_index,  # of soft labels none is looked for
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
        return loss.numpy()
    if kind(fw) == "paddle":
        paddle = import_module("paddle")
        last = [0, *range(2, logits.ndim), 1]
        tensors = (
            paddle.to_tensor(logits.transpose(last)),
            paddle.to_tensor(labels.transpose(last) if soft else labels),
        )
        loss = paddle.nn.functional.cross_entropy(
            *tensors,
            weight=None if weight is None else paddle.to_tensor(weight),
            ignore_index=-100 if soft else ignore_index,
            reduction=reduction,
            soft_label=soft,
            label_smoothing=label_smoothing,
        )
        loss = loss.numpy()
        return (
            loss.reshape(labels.shape[:1] + labels.shape[2:] if soft else labels.shape) if loss.ndim else loss
        )
    functions = import_module("chainer.functions")
    given = {
        "class_weight": weight,
        "ignore_label": ignore_index,
        "reduce": "mean" if reduction == "mean" else "no",
    }
    loss = functions.softmax_cross_entropy(logits, labels, **given).array
    return loss.sum() if reduction == "sum" else loss


def takes(fw, label_smoothing, ignore_index, weighted, soft, **_):
    """Whether the framework's own loss has the combination at all, and as its documentation has it."""
    if (
        kind(fw) == "paddle"
    ):  # it smooths labels that do not count, and looks for their number among soft ones
        return not (label_smoothing and not soft and ignore_index >= 0)
    if kind(fw) == "chainer":  # which cannot smooth, and forgets the weights of soft labels
        return not label_smoothing and not (soft and weighted)
    return True


@given(drawing=arguments)
@COMMON
def test_cross_entropy_is_the_frameworks_own_in_every_argument(fw, drawing):
    ignore_index = IGNORED[kind(fw)] if drawing["ignore_index"] is None else drawing["ignore_index"]
    given = {**drawing, "ignore_index": ignore_index}
    if not takes(fw, **given):
        return
    logits, labels, weight = drawn(fw, **given)
    weight = weight if drawing["weighted"] else None
    passed = {name: given[name] for name in ("label_smoothing", "ignore_index", "reduction")}
    tensors = fw.tensor(logits), fw.tensor(labels)
    weights = {} if weight is None else {"weight": fw.tensor(weight.astype(np.float32))}
    target, (first, second, s) = tensors[1], (labels, labels, 0.0)
    if drawing["method"] is not None:
        images = fw.tensor(np.zeros((6, 2), np.float32))
        _, target = fw.face.mix(images, tensors[1], drawing["method"], step=drawing["seed"])
        second, s = labels[target.plan.perm], target.plan.blend((6, 2)).s
    loss = fw.face.cross_entropy(tensors[0], target, **passed, **weights)
    per_sample = np.ndim(s) > 0
    if per_sample and drawing["reduction"] == "mean":
        if weight is not None or (labels == ignore_index).any():
            return  # a mean by the blended weights: test_the_mean_of_blends_is_by_what_counts
        passed["reduction"] = "none"
    elif per_sample and drawing["reduction"] == "sum":
        passed["reduction"] = "none"
    one, other = (own(fw, logits, y, weight, **passed) for y in (first, second))
    share = np.reshape(s, (-1, *(1,) * (one.ndim - 1))) if per_sample else s
    expected = (1 - share) * one + share * other
    if per_sample and drawing["reduction"] != "none":
        expected = expected.mean() if drawing["reduction"] == "mean" else expected.sum()
    assert fw.dtype(loss) == drawing["dtype"]
    tolerance = {"float16": 2e-3, "float32": 2e-5, "float64": 1e-6}[drawing["dtype"]]
    np.testing.assert_allclose(fw.numpy(loss), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_that_do_not_count_cost_nothing_and_get_no_gradient(fw, lam_per, smoothing):
    """Also when smoothed, in clean steps and in mixed ones; the mean is over what counts."""
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(4, 5, 7)).astype(np.float32), rng.integers(5, size=(4, 7))
    labels[:, 3:] = 255
    images = fw.tensor(rng.normal(size=(4, 2)).astype(np.float32))
    for method in (Mixup(prob=1e-9), Mixup(lam_per=lam_per)):
        _, target = fw.face.mix(images, fw.tensor(labels), method, step=1)

        def loss(x, target=target):
            return fw.face.cross_entropy(x, target, smoothing, ignore_index=255)

        gradient = fw.gradient(loss, fw.tensor(logits), np.ones(()))
        assert (gradient[:, :, 3:] == 0.0).all() and (gradient[:, :, :3] != 0.0).all()
        counted = fw.face.mix(images, fw.tensor(labels[:, :3]), method, step=1)[1]
        expected = fw.face.cross_entropy(fw.tensor(logits[:, :, :3]), counted, smoothing)
        assert fw.numpy(loss(fw.tensor(logits))) == pytest.approx(float(fw.numpy(expected)), rel=1e-5)


def test_the_mean_of_blends_is_by_what_counts(fw):
    """Where one side of a blend does not count, the other counts by its share."""
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    labels = np.array([0, 1, 255, 3, 255, 2])
    method = Mixup(lam_per="sample", pairs="derangement")
    _, target = fw.face.mix(fw.tensor(logits), fw.tensor(labels), method, step=2)
    s, perm = target.plan.blend((6, 4)).s.astype(np.float64), target.plan.perm
    logs = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    losses = np.where(labels == 255, 0.0, -logs[np.arange(6), np.minimum(labels, 3)])
    other = np.where(labels[perm] == 255, 0.0, -logs[np.arange(6), np.minimum(labels[perm], 3)])
    counts = (1 - s) * (labels != 255) + s * (labels[perm] != 255)
    expected = ((1 - s) * losses + s * other).sum() / counts.sum()
    found = fw.face.cross_entropy(fw.tensor(logits), target, ignore_index=255)
    assert fw.numpy(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_pixels_follow_a_mask_by_themselves(fw, lam_per):
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(4, 3, 6, 6)).astype(np.float32), rng.integers(3, size=(4, 6, 6))
    method = CutMix(lam_per=lam_per, pairs="derangement")
    _, target = fw.face.mix(
        fw.tensor(rng.normal(size=(4, 2, 6, 6)).astype(np.float32)), fw.tensor(labels), method, step=3
    )
    inside = np.broadcast_to(target.plan.blend((4, 2, 6, 6)).mask[:, 0], labels.shape)
    pasted = np.where(inside, labels[target.plan.perm], labels)
    plain = fw.face.cross_entropy(fw.tensor(logits), fw.tensor(pasted))
    assert fw.numpy(fw.face.cross_entropy(fw.tensor(logits), target)) == pytest.approx(
        float(fw.numpy(plain)), rel=1e-5
    )
    plain = fw.face.binary_cross_entropy(fw.tensor(logits), fw.tensor(pasted))
    found = fw.face.binary_cross_entropy(fw.tensor(logits), target)
    assert fw.numpy(found) == pytest.approx(float(fw.numpy(plain)), rel=1e-5)
    plain = fw.face.accuracy(fw.tensor(logits), fw.tensor(pasted))
    assert fw.numpy(fw.face.accuracy(fw.tensor(logits), target)) == pytest.approx(
        float(fw.numpy(plain)), rel=1e-5
    )


def test_half_precision_is_summed_in_float32(fw):
    """12,000 losses of about 7 are more than float16 holds."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(12000, 8)).astype(np.float16), rng.integers(8, size=12000)
    logits[np.arange(12000), labels] -= 5
    _, target = fw.face.mix(fw.tensor(np.zeros((12000, 2), np.float32)), fw.tensor(labels), Mixup(), step=1)
    logs = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    for y, perm, s in ((fw.tensor(labels), np.arange(12000), 0.0), (target, target.plan.perm, target.s)):
        losses = [-logs[np.arange(12000), own].mean() for own in (labels, labels[perm])]
        found = fw.face.cross_entropy(fw.tensor(logits), y)
        assert fw.numpy(found) == pytest.approx((1 - s) * losses[0] + s * losses[1], rel=1e-3)
        assert fw.dtype(found) == "float16"
        binary = fw.face.binary_cross_entropy(fw.tensor(logits), y)
        assert np.isfinite(fw.numpy(binary)) and fw.dtype(binary) == "float16"
