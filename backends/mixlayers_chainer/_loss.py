"""Losses of mixed targets."""

from __future__ import annotations

import chainer
import chainer.functions as F
from chainer import Variable, backend

from mixlayers import MixedTarget
from mixlayers._criterion import soft_labels
from mixlayers_chainer._blend import Array
from mixlayers_chainer._framework import CHAINER, one_hot


def cross_entropy(
    output: Variable, target: MixedTarget | Variable | Array, label_smoothing: float = 0.0
) -> Variable:
    """Softmax cross-entropy, mean over the labels that are not ignored (-1), for mixed or plain targets.

    A plain target's is `F.softmax_cross_entropy(output, target)`. Fit as `lossfun` of any classifier.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices (N,) or (N, ...), or soft labels of the output's shape.
        label_smoothing: Epsilon in [0, 1).
    """
    if not isinstance(target, MixedTarget) and not label_smoothing:
        return F.softmax_cross_entropy(output, target)
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    classes: int = output.shape[1]

    def probabilities(y: Variable | Array) -> Variable | Array:
        if CHAINER.is_float(y):
            return y
        hot = one_hot(chainer.as_array(y), classes, output.dtype)
        return backend.get_array_module(hot).moveaxis(hot, -1, 1)

    soft = mixed.blend(probabilities)
    if label_smoothing:
        weights = soft.sum(axis=1, keepdims=True) if not isinstance(soft, Variable) else F.sum(soft, 1, True)
        soft = (1.0 - label_smoothing) * soft + label_smoothing / classes * weights
    if not isinstance(soft, Variable):
        soft = soft.astype(output.dtype, copy=False)
    counted = mixed.y.size / classes if CHAINER.is_float(mixed.y) else (chainer.as_array(mixed.y) >= 0).sum()
    return -F.sum(soft * F.log_softmax(output)) * (mixed.loss_scale / max(float(counted), 1.0))


def binary_cross_entropy(
    output: Variable,
    target: MixedTarget | Variable | Array,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
) -> Variable:
    """Binary cross-entropy of logits, mean over samples and classes, for mixed or plain targets.

    For several labels a sample, and for one as in "ResNet strikes back" (arXiv:2110.00476): class indices become
    one-hot rows.

    Args:
        output: Logits, (N, K).
        target: A mixed target, class indices (N,), or labels (N, K) in [0, 1].
        label_smoothing: Epsilon in [0, 1), spread evenly over the K classes: for one class a sample.
        target_threshold: A mixed label above it counts as 1, any other as 0 (timm's recipe has 0.2); None: the
            labels' shares.

    Raises:
        ValueError: If target_threshold is not in [0, 1).
    """
    labels, scale = soft_labels(CHAINER, target, output.shape[1], label_smoothing, target_threshold)
    labels = labels.astype(output.dtype, copy=False)
    return F.mean(F.softplus(output) - labels * output) * scale
