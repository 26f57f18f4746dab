"""What labels may be (one logit, several labels, rows, indices), and which are refused: in every framework."""

from importlib import import_module

import numpy as np
import pytest
import scipy.special

from mixlayers import Mixup
from tests.shared.test_loss_arguments import IGNORED, kind


@pytest.mark.parametrize("shape", [(9,), (9, 1)])
@pytest.mark.parametrize("labels", ["int64", "float32", "bool"])
@pytest.mark.parametrize("column", [False, True])
def test_one_logit_a_sample(fw, shape, labels, column):
    """Labels 0 and 1, of any dtype, with a column or without: never the class indices of one class."""
    rng = np.random.default_rng(4)
    logits, y = rng.normal(size=shape).astype(np.float32), rng.integers(2, size=9)
    given = fw.tensor(y.astype(labels).reshape((9, 1) if column else 9))
    x, truth = logits.reshape(9).astype(np.float64), y
    expected = (np.logaddexp(0, x) - truth * x).mean()
    assert fw.numpy(fw.face.binary_cross_entropy(fw.tensor(logits), given)) == pytest.approx(
        expected, rel=1e-5
    )
    right = ((x > 0) == truth).mean()
    assert fw.numpy(fw.face.accuracy(fw.tensor(logits), given)) == pytest.approx(right)
    _, target = fw.face.mix(fw.tensor(np.zeros((9, 2), np.float32)), given, Mixup(), step=1)
    truth = (1 - target.s) * y + target.s * y[target.plan.perm]
    expected = (np.logaddexp(0, x) - truth * x).mean()
    assert fw.numpy(fw.face.binary_cross_entropy(fw.tensor(logits), target)) == pytest.approx(
        expected, rel=1e-5
    )
    smooth = (1 - 0.2) * truth + 0.2 / 2
    found = fw.face.binary_cross_entropy(fw.tensor(logits), target, label_smoothing=0.2)
    assert fw.numpy(found) == pytest.approx((np.logaddexp(0, x) - smooth * x).mean(), rel=1e-5)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32"])
def test_several_labels_a_sample(fw, dtype):
    """Rows of 0 and 1 of any dtype; in `soft`, in the loss, in the accuracy of each decision, in the collate."""
    rng = np.random.default_rng(5)
    logits, rows = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(2, size=(6, 4))
    _, target = fw.face.mix(fw.tensor(logits), fw.tensor(rows.astype(dtype)), Mixup(), step=1)
    soft = (1 - target.s) * rows + target.s * rows[target.plan.perm]
    np.testing.assert_allclose(fw.numpy(target.soft(4)), soft, atol=1e-6)
    expected = (np.logaddexp(0, logits.astype(np.float64)) - soft * logits).mean()
    assert fw.numpy(fw.face.binary_cross_entropy(fw.tensor(logits), target)) == pytest.approx(
        expected, rel=1e-5
    )
    if dtype != "float32":
        hit = np.where(logits > 0, soft, 1 - soft).mean()
        assert fw.numpy(fw.face.accuracy(fw.tensor(logits), target)) == pytest.approx(hit, abs=1e-6)
    data = [(image, row) for image, row in zip(logits, rows.astype(dtype), strict=True)]
    _, collated = fw.face.MixCollate(Mixup(), 4)(data)
    assert np.shape(collated) == (6, 4) or tuple(collated.shape) == (6, 4)
    np.testing.assert_allclose(np.asarray(collated).sum(), rows.sum(), rtol=1e-5)


def test_whole_numbers_in_k_columns_may_be_indices(fw):
    """The one ambiguous label: rows, or indices at K places; an argument says which."""
    places = np.array([[0, 3, 1, 2], [2, 2, 0, 1]])
    _, target = fw.face.mix(
        fw.tensor(np.zeros((2, 3), np.float32)), fw.tensor(places), Mixup(prob=1e-9), step=0
    )
    assert tuple(target.soft(4, labels="indices").shape) == (2, 4, 4)
    np.testing.assert_array_equal(fw.numpy(target.soft(4, labels="indices")), np.eye(4)[places])
    assert tuple(target.soft(5).shape) == (2, 4, 5)
    with pytest.raises(
        ValueError, match='several labels a sample, 0 or 1 each, and hold 3: pass labels="ind'
    ):
        target.soft(4)
    with pytest.raises(ValueError, match="labels must be one of 'auto', 'indices', 'rows', got 'hot'"):
        target.soft(4, labels="hot")


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_class_indices_of_any_whole_dtype_cost_the_same(fw, dtype):
    """Of plain and of mixed labels, by the formula: Paddle's own takes int64 alone."""
    logits, y = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), np.array([0, 2, 1, 1])
    own = -scipy.special.log_softmax(logits, axis=1)[np.arange(4), y]
    labels = fw.tensor(y.astype(dtype))
    found = fw.face.cross_entropy(fw.tensor(logits), labels)
    np.testing.assert_allclose(fw.numpy(found), own.mean(), rtol=1e-5)
    _, target = fw.face.mix(fw.tensor(logits), labels, Mixup(), step=1)
    partner = -scipy.special.log_softmax(logits, axis=1)[np.arange(4), y[target.plan.perm]]
    blended = target.plan.lam * own.mean() + (1.0 - target.plan.lam) * partner.mean()
    found = fw.face.cross_entropy(fw.tensor(logits), target)
    np.testing.assert_allclose(fw.numpy(found), blended, rtol=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, 255, 1], [0, -7, 1], [3, 3, 3]])
@pytest.mark.parametrize("mixed", [False, True])
def test_classes_that_there_are_not_are_refused(fw, labels, mixed):
    logits = fw.tensor(np.zeros((3, 3), np.float32))
    y = fw.tensor(np.array(labels))
    target = fw.face.mix(logits, y, Mixup(), step=1)[1] if mixed else y
    worst = next(number for number in labels if not 0 <= number < 3)
    for loss in (fw.face.cross_entropy, fw.face.binary_cross_entropy, fw.face.accuracy):
        with pytest.raises(
            ValueError, match=rf"must be in \[0, 3\), got {worst} .*number the classes from 0"
        ):
            loss(logits, target)
    if mixed:
        with pytest.raises(ValueError, match=rf"class indices must be in \[0, 3\), got {worst}"):
            target.soft(3)


@pytest.mark.parametrize(
    ("output", "labels"),
    [((3, 3), (3, 3)), ((3, 4, 2, 2), (3, 2)), ((3, 4, 2, 2), (3, 1, 2, 2)), ((3, 4), (2,))],
)
def test_labels_of_other_shapes_are_refused(fw, output, labels):
    logits, y = fw.tensor(np.zeros(output, np.float32)), fw.tensor(np.zeros(labels, np.int64))
    with pytest.raises(ValueError, match=r"takes class indices of shape .*got whole numbers of shape"):
        fw.face.cross_entropy(logits, y)
    with pytest.raises(ValueError, match="probabilities, of the output's shape"):
        fw.face.cross_entropy(logits, fw.tensor(np.zeros((*labels, 5), np.float32)))


def test_accuracy_of_pixels_and_of_labels_that_do_not_count(fw):
    rng = np.random.default_rng(6)
    logits, labels = rng.normal(size=(3, 4, 5, 5)).astype(np.float32), rng.integers(4, size=(3, 5, 5))
    ignored = IGNORED[kind(fw)]
    labels[:, 2:] = ignored
    expected = (logits.argmax(1) == labels)[:, :2].mean()
    assert fw.numpy(fw.face.accuracy(fw.tensor(logits), fw.tensor(labels))) == pytest.approx(
        expected, abs=1e-6
    )
    flat, y = logits[:, :, 0, 0], np.array([1, ignored, 2])
    confidence = scipy.special.softmax(flat.astype(np.float64), axis=1).max(1)[[0, 2]]
    right = (flat.argmax(1) == y)[[0, 2]]
    expected = import_module("mixlayers._core.labels.metrics").calibration_error(confidence, right)
    assert fw.face.calibration_error(fw.tensor(flat), fw.tensor(y)) == pytest.approx(expected, abs=1e-6)


def test_regression_has_no_accuracy(fw):
    output = fw.tensor(np.zeros((3, 1), np.float32))
    with pytest.raises(ValueError, match=r"accuracy needs classes.*got 0.5: for regression"):
        fw.face.accuracy(output, fw.tensor(np.array([[0.5], [3.5], [1.0]], np.float32)))
    with pytest.raises(ValueError, match="for regression use"):
        fw.face.cross_entropy(output, fw.tensor(np.array([0.5, 3.5, 1.0], np.float32)))


def test_a_dict_of_labels_is_refused_with_the_way_out(fw):
    output, y = fw.tensor(np.zeros((3, 2), np.float32)), fw.tensor(np.array([0, 1, 1]))
    plain = {"a": y, "b": y}
    _, target = fw.face.mix(output, plain, Mixup(), step=1)
    for loss in (fw.face.cross_entropy, fw.face.binary_cross_entropy, fw.face.accuracy):
        for given in (target, plain):
            with pytest.raises(
                TypeError, match=r"one tensor of labels, got dict: for several heads use target.blend"
            ):
                loss(output, given)


def test_arguments_are_checked(fw):
    output, y = fw.tensor(np.zeros((3, 2), np.float32)), fw.tensor(np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'no'"):
        fw.face.cross_entropy(output, y, reduction="no")
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 1.5"):
        fw.face.cross_entropy(output, y, 1.5)


def test_smoothed_labels_that_do_not_count_have_no_probabilities(fw):
    ignored = IGNORED[kind(fw)]
    y, x = np.array([0, ignored, 2, ignored, 1]), fw.tensor(np.zeros((5, 2), np.float32))
    smooth = np.where((y == ignored)[:, None], 0.0, 0.8 * np.eye(3)[y * (y != ignored)] + 0.2 / 3)
    targets = [fw.face.mix(x, fw.tensor(y), Mixup(prob=0.5), step=step)[1] for step in range(8)]
    for target in targets:
        s, perm = (target.s, target.plan.perm) if target.mixed else (0.0, np.arange(5))
        expected = (1 - s) * smooth + s * smooth[perm]
        np.testing.assert_allclose(fw.numpy(target.soft(3, smoothing=0.2)), expected, atol=1e-6)
    assert {target.mixed for target in targets} == {True, False}


@pytest.mark.parametrize("topk", [1, 2])
def test_scores_of_nan_are_wrong(fw, topk):
    """Whatever class the framework would have chosen."""
    scores = np.zeros((6, 3), np.float32)
    scores[:3, 1], scores[3] = np.nan, np.nan
    scores[4:, 2] = 1.0
    y = fw.tensor(np.array([0, 1, 2, 0, 2, 2]))
    assert fw.numpy(fw.face.accuracy(fw.tensor(scores), y, topk=topk)) == pytest.approx(2 / 6)
    one = fw.tensor(np.array([np.nan, np.nan, 1.0, -1.0], np.float32))
    assert fw.numpy(fw.face.accuracy(one, fw.tensor(np.array([0, 1, 1, 0])))) == pytest.approx(0.5)
    rows = fw.tensor(np.array([[1, 0, 0]] * 6))
    assert fw.numpy(fw.face.accuracy(fw.tensor(scores), rows)) == pytest.approx(
        5 / 18
    )  # class 2 of three, class 1 of two


def test_several_labels_have_no_calibration(fw):
    scores, rows = fw.tensor(np.eye(3, dtype=np.float32)), np.eye(3, dtype=np.int64)
    expected = fw.face.calibration_error(scores, fw.tensor(np.arange(3)))
    assert fw.face.calibration_error(scores, fw.tensor(rows)) == pytest.approx(expected)
    for wrong in ([1, 1, 0], [0, 0, 0]):
        rows[1] = wrong
        for measure in (fw.face.calibration_error, fw.face.temperature):
            with pytest.raises(
                ValueError, match=f"take one class a sample, got the row {wrong}".replace("[", r"\[")
            ):
                measure(scores, fw.tensor(rows))


def test_probabilities_of_nan_are_refused(fw):
    scores, rows = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    rows[1] = np.nan
    for measure in (fw.face.accuracy, fw.face.calibration_error):
        with pytest.raises(ValueError, match=r"probabilities are in \[0, 1\], got nan"):
            measure(fw.tensor(scores), fw.tensor(rows))
