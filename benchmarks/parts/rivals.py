"""The usual ways to mix, written plainly: what a user would write, and what the methods' authors published."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def usual_mixup(x: Tensor, perm: Tensor, lam: float | Tensor) -> Tensor:
    """Mixup and Manifold Mixup as published, lam a float or (N, 1, 1, 1)."""
    return lam * x + (1 - lam) * x[perm]


def usual_cutmix(x: Tensor, perm: Tensor, box: tuple[slice, ...]) -> Tensor:
    """CutMix as published, but out of place."""
    y = x.clone()
    y[box] = x[perm][box]
    return y


def usual_where(x: Tensor, perm: Tensor, mask: Tensor) -> Tensor:
    """Any mask, hard."""
    return torch.where(mask, x[perm], x)


def usual_soft(x: Tensor, perm: Tensor, mask: Tensor, lam: float) -> Tensor:
    """Any mask, soft."""
    return torch.where(mask, lam * x + (1 - lam) * x[perm], x)


def authors_patchup(
    x: Tensor, rng: np.random.Generator, *, soft: bool, gamma: float, block: int = 7
) -> tuple[Tensor, Tensor, float]:
    """PatchUp as its authors wrote it: the mask is spread over the whole batch, then pooled.

    Returns:
        The patched feature, the permutation, and the partner's share.
    """
    size, side = x.shape, x.shape[-1]
    lam = rng.beta(2.0, 2.0) if soft else 0.0
    rate = gamma * side**2 / (block**2 * (side - block + 1) ** 2)
    seeds = torch.bernoulli(torch.full(size[1:], rate)).expand(size)
    holes = F.max_pool2d(seeds, block, 1, block // 2)
    portion = float(holes[0].sum()) / holes[0].numel()
    perm = torch.from_numpy(rng.permutation(size[0]))
    unchanged = (1 - holes) * x
    patches = holes * x
    patches = lam * patches + (1 - lam) * patches[perm] if soft else patches[perm]
    return unchanged + patches, perm, (1 - lam) * portion


def authors_loss(logits: Tensor, labels: Tensor, perm: Tensor, share: float) -> Tensor:
    """Binary cross-entropy of the softmax with a mixed one-hot target, as in both authors' code."""
    one_hot = F.one_hot(labels, logits.shape[1]).float()
    return F.binary_cross_entropy(logits.softmax(1), (1 - share) * one_hot + share * one_hot[perm])
