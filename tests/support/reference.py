"""The maths of mixing in plain NumPy, forward and backward: the oracle of every backend.

Written to be read and to be right, sample by sample; nothing runs it but the tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def mix(x: Array, perm: Array, lam: Any, mask: Array | None = None) -> Array:
    """`x~ = x + w * (x[perm] - x)`, `w = mask * (1 - lam)`.

    Args:
        x: (N, ...).
        perm: Partners, (N,).
        lam: Share of the original sample under the mask: a float, or (N,).
        mask: bool, broadcastable to x; None: everywhere.
    """
    lams = np.broadcast_to(np.asarray(lam, dtype=np.float64), (len(x),))
    where = np.broadcast_to(True if mask is None else mask, x.shape)
    mixed = x.copy()
    for i, partner in enumerate(perm):
        blended = lams[i] * x[i] + (1.0 - lams[i]) * x[partner]
        mixed[i][where[i]] = blended[where[i]]
    return mixed


def mix_backward(gradient: Array, perm: Array, lam: Any, mask: Array | None = None) -> Array:
    """The gradient with respect to x: each sample's goes to itself and to its partner.

    Args:
        gradient: With respect to `mix(x, ...)`, (N, ...).
        perm, lam, mask: As given to `mix`.
    """
    lams = np.broadcast_to(np.asarray(lam, dtype=np.float64), (len(gradient),))
    where = np.broadcast_to(True if mask is None else mask, gradient.shape)
    result = np.zeros_like(gradient)
    for i, partner in enumerate(perm):
        w = where[i] * (1.0 - lams[i])
        result[i] += (1.0 - w) * gradient[i]
        result[partner] += w * gradient[i]
    return result


def partner_share(shape: tuple[int, ...], lam: Any, mask: Array | None = None) -> Array:
    """s, the mean of w over each sample's features, (N,)."""
    w = np.broadcast_to(True if mask is None else mask, shape) * 1.0
    covered: Array = w.reshape(len(w), -1).mean(axis=1)
    return covered * (1.0 - np.broadcast_to(lam, (len(w),)))


def token_share(lengths: Array, perm: Array, lam: Any) -> Array:
    """The partner's share of the real tokens in each blend, (N,).

    Args:
        lengths: Real tokens of each sample, (N,).
        perm: Partners, (N,).
        lam: Share of the original sample: a float, or (N,).
    """
    lams = np.broadcast_to(np.asarray(lam, dtype=np.float64), (len(lengths),))
    shares = np.zeros(len(lengths))
    for i, partner in enumerate(perm):
        own, theirs = lams[i] * lengths[i], (1.0 - lams[i]) * lengths[partner]
        shares[i] = theirs / (own + theirs) if own + theirs else 0.0
    return shares


def soft_target(y: Array, perm: Array, s: Any, num_classes: int, smoothing: float = 0.0) -> Array:
    """`(1 - s) * one_hot(y) + s * one_hot(y[perm])`, smoothed, (N, num_classes).

    Args:
        y: Class indices, (N,).
        perm: Partners, (N,).
        s: Share of the partner: a float, or (N,).
        num_classes: K.
        smoothing: Epsilon of the label smoothing.
    """
    one_hot = np.eye(num_classes)[y]
    share = np.broadcast_to(s, (len(y),))[:, None]
    mixed = (1.0 - share) * one_hot + share * one_hot[perm]
    return (1.0 - smoothing) * mixed + smoothing / num_classes


def cross_entropy(logits: Array, target: Array) -> float:
    """Mean over the batch of `-sum(target * log_softmax(logits))`.

    Args:
        logits: (N, K).
        target: Probabilities, (N, K).
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(target * logs).sum(axis=1).mean())


def replace(x: Array, mask: Array, partner: Array, scale: float) -> Array:
    """`partner` under the mask, `scale * x` elsewhere: DropBlock and erasing.

    Args:
        x: (N, ...).
        mask: bool, broadcastable to x.
        partner: Broadcastable to x.
        scale: Factor of what is kept.
    """
    where, other = np.broadcast_to(mask, x.shape), np.broadcast_to(partner, x.shape)
    replaced = x.copy()
    for index in np.ndindex(x.shape):
        replaced[index] = other[index] if where[index] else scale * x[index]
    return replaced


def replace_backward(gradient: Array, mask: Array, scale: float) -> Array:
    """The gradient with respect to x of `replace(x, ...)`."""
    return np.where(mask, 0.0, gradient * scale)


def weigh(x: Array, perm: Array, keep: Array) -> Array:
    """`keep * x + (1 - keep) * x[perm]`, sample by sample.

    Args:
        x: (N, ...).
        perm: Partners, (N,).
        keep: The sample's own weights, broadcastable to x.
    """
    weights = np.broadcast_to(keep, x.shape).astype(np.float64)
    return np.stack([w * x[i] + (1.0 - w) * x[perm[i]] for i, w in enumerate(weights)])


def weigh_backward(gradient: Array, perm: Array, keep: Array) -> Array:
    """The gradient with respect to x of `weigh(x, ...)`."""
    weights = np.broadcast_to(keep, gradient.shape).astype(np.float64)
    result = weights * gradient
    for i, partner in enumerate(perm):
        result[partner] += (1.0 - weights[i]) * gradient[i]
    return result


def paste_resized(x: Array, perm: Array, mask: Array, scale: float) -> tuple[Array, Array]:
    """ResizeMix: cell (a, b) of each sample's box shows its partner's cell (floor(a / scale), floor(b / scale)).

    Args:
        x: (N, C, H, W).
        perm: Partners, (N,).
        mask: Where the boxes are, bool (N, 1, H, W).
        scale: Of the sides.

    Returns:
        What is mixed; and for each of its elements the flat position in x that it comes from.
    """
    origin = np.arange(x.size).reshape(x.shape)
    came = origin.copy()
    for i, partner in enumerate(perm):
        rows, columns = np.flatnonzero(mask[i, 0].any(1)), np.flatnonzero(mask[i, 0].any(0))
        for a, row in enumerate(rows):
            for b, column in enumerate(columns):
                came[i, :, row, column] = origin[partner, :, int(a / scale), int(b / scale)]
    return x.ravel()[came], came


def moments(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """Mean, and root of unbiased variance + eps, over axes that stay with the length 1."""
    return x.mean(axes, keepdims=True), np.sqrt(x.var(axes, ddof=1, keepdims=True) + eps)


def restyle(x: Array, axes: tuple[int, ...], eps: float, new: tuple[Array, Array]) -> Array:
    """`(x - mean) / sd * new_sd + new_mean`, of mean and sd over axes."""
    mean, sd = moments(x, axes, eps)
    return (x - mean) / sd * new[1] + new[0]


def exchange_moments_backward(
    gradient: Array, x: Array, perm: Array, axes: tuple[int, ...], eps: float
) -> Array:
    """The gradient of MoEx with respect to x, through all statistics, in closed form.

    dx = (D - mean D - z sum(D z) / (m - 1)) / sd + a / m + b z / (m - 1), with z the normalised x, D the gradient times
    the partner's sd, m the group's size (its variance without eps: each sum is scaled by var / (var + eps)); a and b
    come from whoever has the sample as a partner.
    """
    mean, sd = moments(x, axes, eps)
    m = int(np.prod([x.shape[axis] for axis in axes]))
    z, d = (x - mean) / sd, gradient * sd[perm]
    came = np.argsort(perm)
    a = gradient.sum(axes, keepdims=True)[came]
    b = (gradient * z).sum(axes, keepdims=True)[came]
    own = (d - d.mean(axes, keepdims=True) - z * (d * z).sum(axes, keepdims=True) / (m - 1)) / sd
    return own + a / m + b * z / (m - 1)


def numeric_gradient(f: Any, x: Array, upstream: Array, step: float = 1e-5) -> Array:
    """The gradient of sum(upstream * f(x)), by differences of both sides."""
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] += step
        above = (upstream * f(moved)).sum()
        moved[index] -= 2 * step
        result[index] = (above - (upstream * f(moved)).sum()) / (2 * step)
    return result


def transport(own: Array, theirs: Array, eps: float, rounds: int) -> Array:
    """Sinkhorn's transport between the cells of two maps (C, cells), by squared distances: its weights add up to 1.

    Multiplying rows and columns, not adding logarithms; of distances that are no larger than a few hundred eps.
    """
    cost = ((own[:, :, None] - theirs[:, None, :]) ** 2).sum(0)
    kernel = np.exp(-(cost - cost.min()) / eps)
    cells = len(cost)
    columns = np.ones(cells)
    for _ in range(rounds):
        rows = 1.0 / cells / (kernel @ columns)
        columns = 1.0 / cells / (kernel.T @ rows)
    return rows[:, None] * kernel * columns


def align(x: Array, perm: Array, lam: Array, weights: list[Array], moves_own: bool) -> Array:
    """AlignMixup's blend of (N, C, cells), with each sample's transport."""
    mixed = np.empty_like(x)
    for i, partner in enumerate(perm):
        own, theirs = x[i], x[partner]
        for cell in range(x.shape[2]):
            along = weights[i][:, cell] if moves_own else weights[i][cell]
            moved = (own if moves_own else theirs) @ (along / along.sum())
            one, other = (moved, theirs[:, cell]) if moves_own else (own[:, cell], moved)
            mixed[i, :, cell] = lam[i] * one + (1.0 - lam[i]) * other
    return mixed


def drop_block(corners: Array, sizes: tuple[int, ...]) -> Array:
    """Where DropBlock drops.

    Args:
        corners: bool, (planes, *free): whether a block begins there, for each place where one fits.
        sizes: The block's sides.

    Returns:
        bool, (planes, *spatial).
    """
    spatial = (free + side - 1 for free, side in zip(corners.shape[1:], sizes, strict=True))
    dropped = np.zeros((len(corners), *spatial), dtype=np.bool_)
    for plane, *first in np.argwhere(corners):
        dropped[(plane, *(slice(f, f + side) for f, side in zip(first, sizes, strict=True)))] = True
    return dropped
