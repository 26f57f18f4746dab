"""The demo's measures against values worked out by hand."""

import numpy as np
import pytest

from mixlayers.cli import score
from mixlayers.cli.data import DataSet, Split

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
LABELS = np.array([0, 1, 1, 1])  # the second prediction is wrong


def test_accuracy_is_the_share_of_right_predictions() -> None:
    assert score.accuracy(PROBABILITIES, LABELS) == 0.75


def test_nll_is_the_mean_of_minus_log_of_the_right_probability() -> None:
    expected = -np.log([0.9, 0.2, 0.7, 0.55]).mean()
    assert score.nll(PROBABILITIES, LABELS) == pytest.approx(expected)


def test_nll_of_an_impossible_label_is_finite() -> None:
    assert score.nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


class Certain:
    """A learner whose logits are (x, 0) of an image's only pixel x, and whose attack takes it away."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        p = 1.0 / (1.0 + np.exp(-images.reshape(-1)))
        return np.stack([p, 1.0 - p], 1)

    def attacked(self, images: np.ndarray, labels: np.ndarray, epsilon: float) -> np.ndarray:
        return images - epsilon


def test_evaluate_scores_the_clean_and_the_attacked() -> None:
    images = np.array([0.5, 0.5, 0.02, 1.0, 1.0, 1.0, 1.0], np.float32).reshape(-1, 1, 1, 1)
    data = DataSet("drawn", "drawn", "drawn", images, np.array([0, 0, 1, 0, 0, 0, 1]), 0.1)
    scores = score.evaluate(Certain(), data, Split(np.array([]), np.arange(3, 7), np.arange(3)))
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.fgsm_accuracy == 1.0  # 0.02 - 0.1 is below 0: label 1
    # of four validation images with logits (1, 0) three are right: 1 / T = log 3
    assert scores.temperature == pytest.approx(1 / np.log(3.0))
    sure = np.exp(np.log(3.0) * np.array([0.5, 0.5, 0.02]))
    right = sure / (1 + sure)
    assert scores.scaled_nll == pytest.approx(-np.log([right[0], right[1], 1 - right[2]]).mean(), rel=1e-6)


def test_rescaled_by_hand() -> None:
    found = score.rescaled(np.array([[0.8, 0.2], [1.0, 0.0]]), 0.5)
    np.testing.assert_allclose(found[0], [16 / 17, 1 / 17])  # squares
    np.testing.assert_allclose(found[1], [1.0, 0.0], atol=1e-300)
    np.testing.assert_allclose(score.rescaled(PROBABILITIES, 1.0), PROBABILITIES)


def test_the_temperature_does_not_know_the_test_labels() -> None:
    one, other = (score.measured(PROBABILITIES, y, PROBABILITIES, LABELS) for y in (LABELS, 1 - LABELS))
    assert one["temperature"] == other["temperature"]
    assert one["scaled_nll"] < one["nll"]
    assert one["accuracy"] == 1 - other["accuracy"]
