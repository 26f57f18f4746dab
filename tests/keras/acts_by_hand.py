"""What methods that do more than blend do to a feature, by Keras' own operations, channels last."""

import numpy as np
from keras import ops

from mixlayers._core.plan.alignments import Align
from mixlayers._core.plan.noise import Jitter
from mixlayers._core.plan.replacements import Replace
from mixlayers_keras._engine import ENGINE


def acted(x, how):
    """A feature, and the partner's share in the label."""
    if isinstance(how, Replace):
        return ops.where(how.mask, 0.0, x * np.float32(how.scale)), 0.0
    if isinstance(how, Jitter):
        return noisy(blended(x, how.blend), how), how.s
    return (aligned if isinstance(how, Align) else restyled)(x, how), how.s


def factor(lam, x):
    """A number, or one for each sample, that multiplies x."""
    return ops.convert_to_tensor(np.reshape(lam, (-1, *(1,) * (len(x.shape) - 1))).astype(np.float32))


def blended(x, how):
    return factor(how.lam, x) * x + factor(1 - how.lam, x) * ops.take(x, how.perm, axis=0)


def noisy(x, how):
    """The draws are the framework's own; what is done with them is not."""
    uniform, normal = (
        ENGINE.framework.noise(x, law, how.seed + at) for at, law in enumerate(("uniform", "normal"))
    )
    return (1.0 + how.multiply * uniform) * x + how.add * normal


def variance(x, axes):
    """That of a sample, over one less than there are."""
    count = np.prod([x.shape[axis] for axis in axes]) - 1
    return ops.sum((x - ops.mean(x, axes, keepdims=True)) ** 2, axes, keepdims=True) / np.float32(count)


def restyled(x, how):
    feature = x if how.shape is None else ops.reshape(x, how.shape)
    mean = ops.mean(feature, how.axes, keepdims=True)
    sd = ops.sqrt(variance(feature, how.axes) + how.eps)
    if how.detached == "both":
        mean, sd = ops.stop_gradient(mean), ops.stop_gradient(sd)
    new = []
    for at, own in enumerate((mean, sd)):
        if how.noise is not None:
            spread = ops.sqrt(variance(own, (0,)) + how.eps)
            new.append(own + ops.convert_to_tensor(how.noise[at]) * spread)
        else:
            theirs = ops.take(own, how.perm, axis=0)
            theirs = ops.stop_gradient(theirs) if how.detached == "partner" else theirs
            new.append(factor(how.keep, own) * own + factor(1 - np.asarray(how.keep), own) * theirs)
    return ops.reshape((feature - mean) / sd * new[1] + new[0], x.shape)


def aligned(x, how):
    """Sinkhorn's rounds on the kernel itself, and each pair of cells subtracted."""
    own = ops.reshape(x, (x.shape[0], -1, x.shape[-1]))
    theirs = ops.take(own, how.perm, axis=0)
    apart = ops.sum((ops.expand_dims(own, 2) - ops.expand_dims(theirs, 1)) ** 2, -1)
    kernel = ops.exp(-ops.stop_gradient(apart) / how.eps)
    rows, columns = ops.ones_like(kernel[:, :, :1]), ops.ones_like(kernel[:, :1])
    for _ in range(how.rounds):
        rows = 1.0 / ops.sum(kernel * columns, 2, keepdims=True)
        columns = 1.0 / ops.sum(kernel * rows, 1, keepdims=True)
    transport = kernel * rows * columns
    if how.moves_own:
        own = ops.swapaxes(transport / ops.sum(transport, 1, keepdims=True), 1, 2) @ own
    else:
        theirs = transport / ops.sum(transport, 2, keepdims=True) @ theirs
    return ops.reshape(factor(how.lam, own) * own + factor(1 - np.asarray(how.lam), own) * theirs, x.shape)
