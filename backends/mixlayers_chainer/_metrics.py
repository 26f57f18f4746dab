"""Accuracy and calibration under mixed targets."""

from __future__ import annotations

import chainer
from chainer import Variable

from mixlayers import MixedTarget
from mixlayers._metrics import check_topk, mixed_calibration_error
from mixlayers_chainer._blend import Array
from mixlayers_chainer._framework import CHAINER


def accuracy(output: Variable | Array, target: MixedTarget | Variable | Array, topk: int = 1) -> Variable:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.
        topk: A label among so many of the highest scores counts, 1 <= topk <= K.

    Returns:
        A scalar Variable on the output's device.

    Raises:
        ValueError: If topk is out of its range.
    """
    check_topk(topk, output.shape)
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    scores = chainer.as_array(output)
    used = mixed.used
    predicted = scores.argmax(axis=1)[:, None] if topk == 1 else (-scores).argsort(axis=1)[:, :topk]

    def each(y: Variable | Array) -> Array:
        labels = chainer.as_array(y)
        labels = labels.argmax(axis=1) if CHAINER.is_float(labels) else labels
        return (predicted == labels[:, None]).any(axis=1).astype("float32")

    hits = mixed.blend(each)
    mixed.used = used  # a metric is no loss: one must still use the target
    return Variable(hits.mean(keepdims=True).reshape(()), requires_grad=False)


def calibration_error(
    output: Variable | Array, target: MixedTarget | Variable | Array, bins: int = 15
) -> float:
    """Expected calibration error (Guo et al., ICML 2017), computed on the host; for validation, not for each step.

    Under mixing a prediction is right by the share of the label that it names.

    Args:
        output: Logits, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.
        bins: Number of equally wide bins of confidence.
    """
    return mixed_calibration_error(CHAINER, output, target, bins)
