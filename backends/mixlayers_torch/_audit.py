"""Find a model's true mixing points in its autograd graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mixlayers._audit import Audit
from mixlayers._batch import batch_size, can_mix
from mixlayers._mixer import call_of
from mixlayers._tree import leaves, tree_map
from mixlayers._verdicts import Call, Layer, output_tensors, read_graph, report
from mixlayers_torch._framework import TORCH
from mixlayers_torch._hooks import joined, parts_of

_SAMPLES = 3


def audit(model: nn.Module, example: Any, *, batch_dim: int = 0) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    One forward pass of three samples in eval mode; each layer's output gets a node of its own in the
    autograd graph, and a layer is a true mixing point if no path from the output to the input goes round
    its node. Mixing at any other layer (inside a residual branch, say) mixes only part of the features.
    What reaches the output without gradients (a detached tensor, an attention mask) is not seen.

    Args:
        model: Any module; its state, mode and the global random state are left as they are.
        example: What the model takes: a tensor, a tuple of positional or a dict of keyword arguments.
        batch_dim: Axis that holds the batch, in the input and in the layers.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    return audit_call(model, *call_of(example), batch_dim)


def audit_call(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    batch_dim: int,
    masks: Sequence[Any] = (),
) -> Audit:
    """`audit` for one call of the model, whose padding masks are no features."""
    size = batch_size(TORCH, (args, kwargs), batch_dim)
    args, kwargs = tree_map(lambda leaf: _probe(leaf, size, batch_dim, masks), (args, kwargs))
    size = min(size, _SAMPLES)
    names = {module: name for name, module in model.named_modules() if name}
    seen: dict[str, list[Call]] = {}

    def traced(x: Any, axis: int) -> bool:
        return can_mix(TORCH, x, size, axis) and x.requires_grad

    def own_node(axis: int, x: Any) -> Any:
        return x.clone() if traced(x, axis) else x

    def mark(module: nn.Module, _: Any, output: Any) -> Any:
        parts, nodes = [], []
        for part, axis in parts_of(module, output, batch_dim):
            marked = tree_map(partial(own_node, axis), part)
            parts.append((marked, axis))
            # the nodes are taken now: `marked += residual` would put another in their place
            nodes += [x.grad_fn for x in leaves(marked) if traced(x, axis)]
        seen.setdefault(names[module], []).append(Call(parts, nodes))
        return joined(module, [part for part, _ in parts])

    handles = [module.register_forward_hook(mark) for module in names]
    try:
        # the innermost hooks on saved tensors win: an activation checkpoint around the model sees none of these;
        # detached, since a node that holds its own output would never be freed, nor the model with it
        unseen = torch.autograd.graph.saved_tensors_hooks(Tensor.detach, lambda x: x)
        with _undisturbed(model, args), torch.enable_grad(), unseen:
            output = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    heads = [x.grad_fn for x in output_tensors(TORCH, output) if x.grad_fn is not None]
    graph = read_graph(heads, _below, handle=lambda node: node)
    inputs = {at for node, at in graph.number.items() if _is_input(node, (args, kwargs))}
    lookups = {at for node, at in graph.number.items() if _looks_up(node, size, batch_dim)}
    layers = {name: _layer(module) for module, name in names.items()}
    return report(TORCH, layers, seen, graph, inputs, lookups, (args, kwargs), size, batch_dim)


def _layer(module: nn.Module) -> Layer:
    weighted = any(p.ndim > 1 for p in module.parameters())
    return Layer(type(module).__name__, weighted, leaf=not any(True for _ in module.children()))


def _below(node: Any) -> list[Any]:
    return [after for after, _ in node.next_functions if after is not None]


def _probe(leaf: Any, size: int, batch_dim: int, masks: Sequence[Any]) -> Any:
    """A few samples of a tensor, as a leaf of the autograd graph."""
    if not isinstance(leaf, Tensor) or leaf.ndim <= batch_dim or leaf.shape[batch_dim] != size:
        return leaf
    few = leaf.detach().narrow(batch_dim, 0, min(size, _SAMPLES)).clone()
    is_feature = TORCH.is_float(few) and all(leaf is not mask for mask in masks)
    return few.requires_grad_() if is_feature else few


@contextmanager
def _undisturbed(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Eval mode, module by module, with the global random state kept, and autocast's copies of weights not.

    FSDP2 would take those copies' gradients a step too late: it expects them to be made in the step's own forward.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {
        leaf.device for leaf in leaves(inputs) if isinstance(leaf, Tensor) and leaf.device.type == "cuda"
    }
    cached = torch.is_autocast_cache_enabled()
    fork = torch.random.fork_rng([device for device in devices if torch.cuda.is_available()])
    try:
        for module, _ in modes:
            module.training = False
        torch.set_autocast_cache_enabled(False)
        with fork:
            yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        for module, mode in modes:
            module.training = mode


def _is_input(node: Any, inputs: Any) -> bool:
    """Whether the node is an input itself."""
    variable = getattr(node, "variable", None)
    return variable is not None and any(variable is leaf for leaf in leaves(inputs))


def _looks_up(node: Any, size: int, batch_dim: int) -> bool:
    """Whether the node is a look-up by batch-wise indices."""
    for name in ("_saved_indices", "_saved_index"):
        saved = getattr(node, name, None)
        for index in saved if isinstance(saved, tuple | list) else (saved,):
            batched = isinstance(index, Tensor) and index.ndim > batch_dim and index.shape[batch_dim] == size
            if batched and (size == 1 or index.stride(batch_dim)):
                return True
    return False
