"""The calibration error against values worked out by hand."""

import numpy as np
import pytest

from mixlayers._core.labels.metrics import calibration_error

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
