"""Mix whole inputs, outputs and targets by a plan."""

from __future__ import annotations

from itertools import count
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixlayers import Method, MixedTarget, MixPlan
from mixlayers._lam import Lam
from mixlayers._plan import joint_share
from mixlayers._tree import leaves, tree_map
from mixlayers_torch._blend import Partners, blend, share_on

_STEPS = count()


def mix(
    x: Any,
    target: Any,
    method: Method,
    *,
    step: int | None = None,
    seed: int = 0,
    rank: int = 0,
    batch_dim: int = 0,
    channel_dim: int = 1,
) -> tuple[Any, MixedTarget]:
    """Mix an input batch and its target; no model needed.

    Args:
        x: Floating-point tensor (N, ...), or a tuple, list, dict or dataclass holding some.
        target: Labels (N,), soft labels (N, K), or a container of tensors with N rows.
        method: For example CutMix(). A method for hidden layers does what it does at the input.
        step: The step's number, for exact replay and resume. None: this process's next one, from 0.
        seed: The run's seed.
        rank: The process's number; equal ranks draw equal plans.
        batch_dim: Axis of x that holds the batch.
        channel_dim: 1 or -1, where a masked feature's channels are, the batch axis being first.

    Returns:
        The mixed x, a new tensor of its dtype, device and layout; and the mixed target.

    Raises:
        ValueError: If x holds no floating-point tensor, or the target has another length.
    """
    size = batch_size(x, batch_dim)
    labels = class_indices(target) if method.needs_labels else None
    number = next(_STEPS) if step is None else step
    plan = method.plan(step=number, batch_size=size, seed=seed, rank=rank, labels=labels)
    check_length(target, size)
    if plan.place is None:
        return x, MixedTarget(target, one_hot=one_hot)
    partners = Partners(plan.perm)
    mixed, shares = mix_tree(x, plan, partners, batch_dim, channel_dim)
    if not shares:
        raise ValueError(no_float_input(x))
    return mixed, MixedTarget(
        target, *partner_and_share(target, joint_share(shares), partners), plan, one_hot
    )


def mix_tree(
    tree: Any, plan: MixPlan, partners: Partners, batch_dim: int, channel_dim: int
) -> tuple[Any, list[tuple[Lam, int]]]:
    """Mix the floating-point tensors of a container whose batch axis has the plan's size.

    Returns:
        The container with mixed tensors, everything else passed on; and for each mixed tensor the partner's
        share with the number of elements per sample.
    """
    shares: list[tuple[Lam, int]] = []

    def mix_leaf(x: Any) -> Any:
        if not can_mix(x, plan.batch_size, batch_dim):
            return x
        feature = x.movedim(batch_dim, 0) if batch_dim else x
        how = plan.blend(feature.shape, channel_dim)
        shares.append((how.s, prod(feature.shape[1:])))
        mixed = blend(feature, how, partners)
        return mixed.movedim(0, batch_dim) if batch_dim else mixed

    return tree_map(mix_leaf, tree), shares


def can_mix(x: Any, size: int, batch_dim: int) -> bool:
    """Whether x is a floating-point (or complex) tensor with `size` samples."""
    return (
        isinstance(x, Tensor)
        and (x.is_floating_point() or x.is_complex())
        and x.ndim > batch_dim
        and x.shape[batch_dim] == size
    )


def partner_and_share(target: Any, s: Lam, partners: Partners) -> tuple[Any, float | Tensor]:
    """`target[perm]`, and the share on the target's device."""
    device = next(leaf.device for leaf in leaves(target) if isinstance(leaf, Tensor))
    partner = tree_map(lambda y: partners.of(y) if isinstance(y, Tensor) else y, target)
    return partner, share_on(s, device)


def one_hot(y: Tensor, num_classes: int) -> Tensor:
    """Class indices as float32 (N, K); soft targets as they are."""
    if y.is_floating_point():
        if y.shape[-1] != num_classes:
            raise ValueError(
                f"soft targets must have num_classes={num_classes} columns, got shape {tuple(y.shape)}."
            )
        return y
    return torch.zeros(*y.shape, num_classes, device=y.device).scatter_(-1, y.unsqueeze(-1), 1.0)


def batch_size(inputs: Any, batch_dim: int) -> int:
    """The number of samples of the first tensor."""
    for leaf in leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.ndim > batch_dim:
            return leaf.shape[batch_dim]
    raise ValueError("the model's input holds no tensor with a batch axis: pass tensors, or check batch_dim.")


def check_length(target: Any, size: int) -> None:
    """Raise unless every tensor of the target has `size` rows."""
    found = [leaf for leaf in leaves(target) if isinstance(leaf, Tensor)]
    if not found:
        raise TypeError(f"target must be a tensor, or a container of tensors, got {type(target).__name__}.")
    for y in found:
        if not y.ndim or len(y) != size:
            raise ValueError(
                f"the input has {size} samples, but the target has shape {tuple(y.shape)}: "
                "pass one target per sample, batch axis first."
            )


def class_indices(target: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The labels on the host, for policies that pair by class. Soft labels count as their largest class."""
    if not isinstance(target, Tensor) or target.ndim not in (1, 2):
        raise ValueError("pairing by class needs class indices (N,) or soft labels (N, K) as the target.")
    y = target.argmax(1) if target.ndim == 2 else target
    return y.detach().cpu().numpy().astype(np.int64)


def no_float_input(inputs: Any) -> str:
    """The error text for an input that cannot be mixed."""
    kinds = sorted({str(leaf.dtype) for leaf in leaves(inputs) if isinstance(leaf, Tensor)})
    return (
        f"mixing at the input needs a floating-point tensor, batch axis first, got {', '.join(kinds) or 'none'}: "
        "convert images to float before the model, or, for token indices, mix at hidden layers (layers=)."
    )
