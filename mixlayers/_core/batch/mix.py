"""Mix whole inputs, outputs and targets by a plan, on any framework's tensors."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from mixlayers._core.batch.carry import carry_out
from mixlayers._core.batch.per_sample import (
    check_no_numbers,
    check_no_samples,
    is_per_sample,
    warn_of_no_features,
)
from mixlayers._core.checks import check_names
from mixlayers._core.errors import refuse
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.labels.labels import classes_of, one_hot
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.methods.method import Method
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.masks import Blocks
from mixlayers._core.plan.plan import INPUT, MixPlan, Shares
from mixlayers._core.plan.streams import worker_seed

_STEPS = count()

FULL: Final = 0.9
"""The share of a map under PatchUp's blocks beyond which they are no blocks any more."""


def mix_batch(
    framework: Framework,
    x: Any,
    target: Any,
    method: Method,
    *,
    step: int | None,
    seed: int,
    rank: int,
    batch_dim: int,
    channel_dim: int,
    keep: Collection[str] = (),
) -> tuple[Any, MixedTarget]:
    """The core of every backend's `mix`.

    Args:
        framework: Whose tensors they are.
        x, target, method, step, seed, rank, batch_dim, channel_dim, keep: As of `mixlayers.torch.mix`.
    """
    framework.check_mixing()
    check_names("keep", keep)
    if not isinstance(method, Method):
        raise TypeError(f"method must be a method such as Mixup(), got {method!r}.")
    if step is None:  # a worker process counts from where the main one was when it began
        seed = worker_seed(seed, framework.worker())
    size = batch_size(framework, x, batch_dim)
    labels, near = host_labels(framework, method, target)
    number = next(_STEPS) if step is None else step
    plan = method.plan(step=number, batch_size=size, seed=seed, rank=rank, labels=labels, near=near)
    check_length(framework, target, size)
    if plan.place is None:
        return x, MixedTarget(target, one_hot=partial(one_hot, framework))
    partners = framework.partners(plan.perm)
    mixed, shares = mix_tree(framework, x, plan, partners, batch_dim, channel_dim, keep)
    if not shares:
        raise ValueError(no_float_input(framework, x))
    return mixed, mixed_target(framework, target, plan, partners, shares, channel_dim)


def mixed_target(
    framework: Framework,
    target: Any,
    plan: MixPlan,
    partners: Any,
    shares: Shares,
    channel_dim: int,
) -> MixedTarget:
    """The target of features that `mix_tree` mixed.

    Args:
        shares: What it returned.
        channel_dim: As it was given.
    """
    partner, s = partner_and_share(framework, target, plan.label_share(shares), partners)
    made = MixedTarget(target, partner, s, plan, partial(one_hot, framework))
    made.record_features(framework, shares, channel_dim)
    return made


def mix_tree(
    framework: Framework,
    tree: Any,
    plan: MixPlan,
    partners: Any,
    batch_dim: int,
    channel_dim: int,
    keep: Collection[str] = (),
    still: Sequence[Any] = (),
) -> tuple[Any, list[tuple[Lam, Sequence[int]]]]:
    """Mix the floating-point tensors of a container whose batch axis has the plan's size, but those named in keep.

    Args:
        still: Tensors that are no features, wherever they are, such as padding masks: they stay as they are.

    Returns:
        The container with mixed tensors, everything else passed on; and for each mixed tensor the partner's
        share with its shape, batch axis first.
    """
    shares: list[tuple[Lam, Sequence[int]]] = []

    def mix_leaf(x: Any) -> Any:
        if not can_mix(framework, x, plan.batch_size, batch_dim) or any(x is other for other in still):
            return x
        feature = framework.move_axis(x, batch_dim, 0) if batch_dim else x
        how = plan.blend(feature.shape, channel_dim)
        shares.append((how.s, tuple(feature.shape)))
        if isinstance(plan.recipe, Blocks):
            spatial = feature.shape[2:] if channel_dim == 1 else feature.shape[1:-1]
            warn_of_full_mask(plan.recipe, tuple(spatial))
        mixed = carry_out(framework, feature, how, partners)
        return framework.move_axis(mixed, 0, batch_dim) if batch_dim else mixed

    if plan.place == INPUT:
        warn_of_no_features(framework, tree, keep, plan.batch_size)
    return tree_map(mix_leaf, tree, keep=keep), shares


@lru_cache(maxsize=256)
def warn_of_full_mask(blocks: Blocks, spatial: tuple[int, ...]) -> None:
    """Tell, once for each size of map, that next to nothing of a sample is left as it was."""
    covered = blocks.covers(spatial)
    if covered > FULL and spatial:
        warnings.warn(
            f"PatchUp with gamma={blocks.gamma} and block_size={blocks.block_size} replaces {covered:.0%} of a map of "
            f"{' x '.join(map(str, spatial))}: hard, samples all but change places, soft, it is Manifold Mixup. Give "
            "portion=0.3 instead of gamma, or a smaller block_size.",
            stacklevel=2,
        )


def can_mix(framework: Framework, x: Any, size: int, batch_dim: int) -> bool:
    """Whether x is a floating-point (or complex) tensor with `size` samples."""
    if not (framework.is_tensor(x) and framework.is_float(x) and x.ndim > batch_dim):
        return False
    framework.check_shaped(x)
    return bool(x.shape[batch_dim] == size)


def refuse_unmixable(framework: Framework, size: int, place: str | None, tree: Any, way_out: str) -> NoReturn:
    """Raise a MixingError: a place holds nothing that a plan could mix."""
    shapes = ", ".join(str(tuple(each.shape)) for each in leaves(tree) if framework.is_tensor(each))
    refuse(
        f"the plan is for a batch of {size}, and its place {place!r} has no floating-point array of so many rows, but "
        f"{shapes or 'no array'}",
        way_out,
    )


def partner_and_share(framework: Framework, target: Any, s: Lam, partners: Any) -> tuple[Any, Any]:
    """`target[perm]`, and the share on the target's device."""
    first = next(leaf for leaf in leaves(target) if framework.is_tensor(leaf))
    perm = partners.perm

    def per_sample(node: Any) -> bool:
        return is_per_sample(framework, node, len(perm))

    def of(y: Any) -> Any:
        if per_sample(y):
            return [y[i] for i in perm.tolist()]
        return partners.of(y) if framework.is_tensor(y) else y

    return tree_map(of, target, is_leaf=per_sample), framework.share(s, first, partners)


def batch_size(framework: Framework, inputs: Any, batch_dim: int) -> int:
    """The number of samples of the first tensor."""
    check_no_samples(framework, inputs, batch_dim)
    for leaf in leaves(inputs):
        if framework.is_tensor(leaf) and leaf.ndim > batch_dim:
            framework.check_shaped(leaf)
            size: int = leaf.shape[batch_dim]
            return size
    raise ValueError("the model's input holds no tensor with a batch axis: pass tensors, or check batch_dim.")


def check_length(framework: Framework, target: Any, size: int) -> None:
    """Raise unless every tensor of the target has `size` rows, or is part of one of as many items of a list."""
    found: list[Any] = []

    def is_leaf(node: Any) -> bool:
        check_no_numbers(framework, node, size)
        return is_per_sample(framework, node, size)

    tree_map(found.append, target, is_leaf=is_leaf)
    items = [leaf for leaf in found if isinstance(leaf, list)]
    found = [leaf for leaf in found if framework.is_tensor(leaf)]
    if not found and not items:
        raise TypeError(f"target must be a tensor, or a container of tensors, got {type(target).__name__}.")
    for y in found:
        if not y.ndim or y.shape[0] != size:
            raise ValueError(
                f"the input has {size} samples, but the target has shape {tuple(y.shape)}: "
                "pass one target per sample, batch axis first, and the samples stacked to one tensor; where only some "
                "of the samples have one, call the model on each part of the batch; where a sample has several rows, "
                "as a graph its nodes, pool them first, and mix(pooled, labels, method) inside the model."
            )


def host_labels(
    framework: Framework, method: Method, target: Any
) -> tuple[npt.NDArray[np.int64] | None, dict[str, npt.NDArray[Any]] | None]:
    """Labels on the host, as a method's pairs need them: class indices, values to be near by."""
    found: dict[str, npt.NDArray[Any]] = {}
    if "domain" in method.near:
        if not isinstance(target, Mapping) or not {"label", "domain"} <= set(target):
            raise ValueError(
                'pairs=Across(...) needs both labels and domains: give the target as {"label": y, "domain": d}, '
                f"got {type(target).__name__}."
            )
        target, found["domain"] = target["label"], class_indices(framework, target["domain"])
    labels = class_indices(framework, target) if method.needs_classes else None
    if "label" not in method.near:
        return labels, found or None
    if not framework.is_tensor(target):
        raise ValueError(
            f'pairs=Near("label", ...) needs a tensor (N,) or (N, D) as the target, got {type(target).__name__}.'
        )
    return labels, {**found, "label": framework.to_numpy(target)}


def class_indices(framework: Framework, target: Any) -> npt.NDArray[np.int64]:
    """The labels on the host, for policies that pair by class: see `mixlayers._core.labels.labels.classes_of`."""
    if not framework.is_tensor(target) or target.ndim not in (1, 2):
        raise ValueError("pairing by class needs class indices (N,) or soft labels (N, K) as the target.")
    return classes_of(framework.to_numpy(target))


def no_float_input(framework: Framework, inputs: Any) -> str:
    """The error text for an input that cannot be mixed."""
    kinds = sorted({str(leaf.dtype) for leaf in leaves(inputs) if framework.is_tensor(leaf)})
    return (
        f"mixing at the input needs a floating-point tensor, batch axis first, got {', '.join(kinds) or 'none'}: "
        "convert images to float before the model, or, for token indices, mix at hidden layers (layers=)."
    )
