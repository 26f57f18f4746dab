"""Accuracy and calibration under mixed targets, and the temperature that mends calibration."""

from __future__ import annotations

import numpy as np
from chainer import Variable

from mixlayers import MixedTarget
from mixlayers._core.labels.metrics import mixed_accuracy, mixed_calibration_error
from mixlayers._core.labels.temperature import fitted_temperature
from mixlayers_chainer._blend import Array
from mixlayers_chainer._framework import CHAINER, IGNORED


def accuracy(
    output: Variable | Array,
    target: MixedTarget | Variable | Array,
    topk: int = 1,
    ignore_index: int = IGNORED,
) -> Variable:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K) or (N, K, ...); or one logit a sample, (N,) or (N, 1), which says 1 above 0.
        target: A mixed target: class indices (N, ...), or (N, 1); probabilities of the output's shape, which count as
            their largest class; or 0 and 1 for each logit, whole numbers or bool of the output's shape, each a
            prediction of its own.
        topk: A label among so many of the highest scores counts, 1 <= topk <= K.
        ignore_index: Labels of this number do not count.

    Returns:
        A scalar Variable on the output's device.

    Raises:
        ValueError: If topk is out of its range; if the labels fit no such output, or hold a class that there is not.
    """
    hits = mixed_accuracy(CHAINER, output, target, topk, ignore_index)
    return Variable(np.asarray(hits) if isinstance(hits, np.generic) else hits, requires_grad=False)


def calibration_error(
    output: Variable | Array,
    target: MixedTarget | Variable | Array,
    bins: int = 15,
    ignore_index: int = IGNORED,
) -> float:
    """Expected calibration error (Guo et al., ICML 2017), computed on the host; for validation, not for each step.

    Under mixing a prediction is right by the share of the label that it names.

    Args:
        output: Logits, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.
        bins: Number of equally wide bins of confidence.
        ignore_index: Labels of this number do not count.
    """
    return mixed_calibration_error(CHAINER, output, target, bins, ignore_index)


def temperature(output: Variable | Array, target: Variable | Array, ignore_index: int = IGNORED) -> float:
    """Temperature T at which softmax(output / T) gives the labels the best likelihood, fitted on the host.

    Mixed training leaves a network less sure than it is right. Fit T on validation images, then divide the logits of
    all others by it: the predicted classes stay, likelihood and `calibration_error` are another's. It is in
    [0.01, 100]; at an end there is no best one, and a warning says so.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        output: Logits of validation images, (N, K).
        target: Class indices (N,), or soft labels (N, K), which count as their largest class; nothing mixed.
        ignore_index: Labels of this number do not count.

    Raises:
        TypeError: If the target is mixed.
        ValueError: If no label counts.
    """
    return fitted_temperature(CHAINER, output, target, ignore_index)
