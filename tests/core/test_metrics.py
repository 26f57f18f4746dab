"""The calibration error against values worked out by hand, the temperature against SciPy's search."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from mixlayers._core.labels.metrics import calibration_error
from mixlayers._core.labels.temperature import LARGEST, SMALLEST, fit_temperature

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
LABELS = np.array([0, 1, 1, 1])  # the second prediction is wrong


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    return calibration_error(probabilities.max(1), probabilities.argmax(1) == labels, bins)


def test_ece_of_one_sample_per_bin_is_the_mean_distance() -> None:
    expected = (0.1 + 0.8 + 0.3 + 0.45) / 4
    assert ece(PROBABILITIES, LABELS, bins=15) == pytest.approx(expected)


def test_ece_compares_within_a_bin() -> None:
    # Two bins of width 1/2: everything lies in the upper one, where confidence is 0.7375 and accuracy 0.75.
    assert ece(PROBABILITIES, LABELS, bins=2) == pytest.approx(0.75 - 0.7375)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    on_the_edge = np.array([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0]])
    assert ece(on_the_edge, np.array([0, 0]), bins=2) == pytest.approx((0.5 + 0.6) / 2)


def test_ece_of_certain_and_right_predictions_is_zero() -> None:
    assert ece(np.eye(3), np.arange(3)) == 0.0


def nll(temperature: float, scores: np.ndarray, labels: np.ndarray) -> float:
    return float(
        -scipy.special.log_softmax(scores / temperature, axis=1)[np.arange(len(labels)), labels].mean()
    )


@pytest.mark.parametrize("true", [0.03, 0.5, 1.0, 4.0, 60.0])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_temperature_is_where_an_independent_search_ends(true: float, spread: float) -> None:
    """Labels are drawn from softmax(logits): these, times any number, are mended by about that number."""
    rng = np.random.default_rng(3)
    logits = spread * rng.normal(size=(2000, 5))
    labels = (scipy.special.softmax(logits, axis=1).cumsum(1) < rng.random((2000, 1))).sum(1)
    scores = true * logits + rng.normal(size=(2000, 1))  # what all classes share does not count
    found = fit_temperature(scores, labels)
    searched = scipy.optimize.minimize_scalar(
        lambda u: nll(np.exp(u), scores, labels), bounds=(np.log(SMALLEST), np.log(LARGEST)), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    assert found == pytest.approx(np.exp(searched.x), rel=1e-5)
    assert found == pytest.approx(true, rel=0.2)
    assert nll(found, scores, labels) <= nll(1.0, scores, labels)


def test_temperature_of_two_classes_by_hand() -> None:
    """A margin of 2 logits, right in three of four: the best margin is log 3."""
    scores = np.tile([2.0, 0.0], (4, 1))
    assert fit_temperature(scores, np.array([0, 0, 0, 1])) == pytest.approx(2.0 / np.log(3.0), rel=1e-9)


def test_temperature_without_a_best_one_is_the_end_of_its_range() -> None:
    scores = np.array([[3.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(scores, np.array([0, 1])) == SMALLEST
    assert fit_temperature(scores, np.array([1, 0])) == LARGEST


def test_temperature_is_that_of_the_classes_that_are_not_masked_out() -> None:
    """-inf times a weight of 0 is no number, and would end the search anywhere."""
    rng = np.random.default_rng(0)
    scores, labels = 3.0 * rng.normal(size=(200, 5)), rng.integers(5, size=200)
    labels[:120] = scores[:120].argmax(1)
    masked = np.concatenate([scores, np.full((200, 2), -np.inf)], 1)
    assert fit_temperature(masked, labels) == fit_temperature(scores, labels)
    with pytest.raises(ValueError, match="a label's own score is -inf"):
        fit_temperature(masked, np.where(np.arange(200) == 3, 6, labels))


def test_no_labels_have_no_calibration_error() -> None:
    with pytest.raises(ValueError, match="needs a label that counts, got none"):
        calibration_error(np.zeros(0), np.zeros(0))


def test_temperature_of_enormous_logits_is_found() -> None:
    rng = np.random.default_rng(0)
    scores = 1e4 * np.eye(3)[rng.integers(3, size=50)]
    labels = np.where(rng.random(50) < 0.9, scores.argmax(1), (scores.argmax(1) + 1) % 3)
    assert fit_temperature(scores, labels) == LARGEST  # 1e4 / log(2 * right / wrong) is beyond
    assert 10.0 < fit_temperature(scores / 100.0, labels) < LARGEST
