"""The demo's measures against values worked out by hand."""

import numpy as np
import pytest
import torch

from mixlayers.cli import score

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
LABELS = np.array([0, 1, 1, 1])  # the second prediction is wrong


def test_accuracy_is_the_share_of_right_predictions() -> None:
    assert score.accuracy(PROBABILITIES, LABELS) == 0.75


def test_nll_is_the_mean_of_minus_log_of_the_right_probability() -> None:
    expected = -np.log([0.9, 0.2, 0.7, 0.55]).mean()
    assert score.nll(PROBABILITIES, LABELS) == pytest.approx(expected)


def test_nll_of_an_impossible_label_is_finite() -> None:
    assert score.nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


def test_ece_of_one_sample_per_bin_is_the_mean_distance() -> None:
    expected = (0.1 + 0.8 + 0.3 + 0.45) / 4
    assert score.ece(PROBABILITIES, LABELS, bins=15) == pytest.approx(expected)


def test_ece_compares_within_a_bin() -> None:
    # Two bins of width 1/2: everything lies in the upper one, where confidence is 0.7375 and accuracy 0.75.
    assert score.ece(PROBABILITIES, LABELS, bins=2) == pytest.approx(0.75 - 0.7375)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    on_the_edge = np.array([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0]])
    assert score.ece(on_the_edge, np.array([0, 0]), bins=2) == pytest.approx((0.5 + 0.6) / 2)


def test_ece_of_certain_and_right_predictions_is_zero() -> None:
    assert score.ece(np.eye(3), np.arange(3)) == 0.0


class Line(torch.nn.Module):
    """Logits (x, 0) of a single pixel x: the loss of label 0 falls with x."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.flatten(1)[:, :1]
        return torch.cat([x, torch.zeros_like(x)], 1)


def test_fgsm_moves_each_pixel_by_epsilon_to_raise_the_loss_and_stays_in_range() -> None:
    images = torch.tensor([0.5, 0.5, 0.02, 0.98]).reshape(4, 1, 1, 1)
    labels = torch.tensor([0, 1, 0, 1])
    moved = score.fgsm(Line(), images, labels, 0.1).flatten()
    assert moved.tolist() == pytest.approx([0.4, 0.6, 0.0, 1.0])
    assert images.flatten().tolist() == pytest.approx([0.5, 0.5, 0.02, 0.98])


def test_evaluate_puts_the_mode_back() -> None:
    model = Line().train()
    scores = score.evaluate(model, torch.full((3, 1, 1, 1), 0.5), torch.tensor([0, 0, 1]), 0.1)
    assert model.training
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.fgsm_accuracy == pytest.approx(2 / 3)  # 0.1 is too little to change the sign of x
