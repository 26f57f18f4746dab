"""Losses and accuracy of mixed targets."""

from __future__ import annotations

import chainer
import chainer.functions as F
from chainer import Variable, backend

from mixlayers import MixedTarget
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


def accuracy(output: Variable | Array, target: MixedTarget | Variable | Array) -> Variable:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.

    Returns:
        A scalar Variable on the output's device.
    """
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, chainer.as_array(output).argmax(axis=1)

    def each(y: Variable | Array) -> Array:
        labels = chainer.as_array(y)
        labels = labels.argmax(axis=1) if CHAINER.is_float(labels) else labels
        return (predicted == labels).astype("float32")

    hits = mixed.blend(each)
    mixed.used = used  # a metric is no loss: one must still use the target
    return Variable(hits.mean(keepdims=True).reshape(()), requires_grad=False)
