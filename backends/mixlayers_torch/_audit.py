"""Find a model's true mixing points in its autograd graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mixlayers._audit import UNSEEN, Audit, Point
from mixlayers._dominators import on_every_path, separates
from mixlayers._layers import auto_layers, stage_ends
from mixlayers._tree import leaves, tree_map
from mixlayers_torch._mix import batch_size, can_mix

_SAMPLES = 3
_ROOT = 0


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
    if isinstance(example, Mapping):
        return audit_call(model, (), dict(example), batch_dim)
    return audit_call(
        model, tuple(example) if isinstance(example, tuple | list) else (example,), {}, batch_dim
    )


def audit_call(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], batch_dim: int) -> Audit:
    """`audit` for one call of the model."""
    size = batch_size((args, kwargs), batch_dim)
    args, kwargs = tree_map(lambda leaf: _probe(leaf, size, batch_dim), (args, kwargs))
    size = min(size, _SAMPLES)
    names = {module: name for name, module in model.named_modules() if name}
    seen: dict[str, list[Any]] = {}

    def mark(module: nn.Module, _: Any, output: Any) -> Any:
        marked = tree_map(
            lambda x: x.clone() if can_mix(x, size, batch_dim) and x.requires_grad else x, output
        )
        own = marked[0] if isinstance(module, nn.RNNBase) else marked  # its state has the batch elsewhere
        # the nodes are taken now: `marked += residual` would put another in their place
        nodes = [x.grad_fn for x in leaves(own) if can_mix(x, size, batch_dim) and x.requires_grad]
        seen.setdefault(names[module], []).append((own, nodes))
        return marked

    handles = [module.register_forward_hook(mark) for module in names]
    try:
        # the innermost hooks on saved tensors win: an activation checkpoint around the model sees none of these
        unseen = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
        with _undisturbed(model, args), torch.enable_grad(), unseen:
            output = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    graph, number = _graph(_heads(output))
    inputs = {number[node] for node in number if _is_input(node, (args, kwargs))}
    lookups = {number[node] for node in number if _looks_up(node, size, batch_dim)}
    # picking a sample's own features, such as its last token's, is no look-up: its table holds samples already
    lookups = {
        node
        for node in lookups
        if all(separates(graph, frozenset(), below, inputs | lookups) for below in graph[node])
    }
    sources = inputs | lookups
    if not sources or separates(graph, frozenset(), _ROOT, sources):
        raise ValueError(
            "the model's output does not depend on the example in a differentiable way, so its layers cannot "
            "be audited: pass floating-point inputs or token indices that reach the output, or name layers."
        )
    dominating = on_every_path(graph, _ROOT, sources)
    points = []
    by_name = {name: module for module, name in names.items()}
    for name in (*seen, *(name for name in by_name if name not in seen)):
        module = by_name[name]
        shape, reason = _verdict(seen.get(name, []), graph, number, dominating, sources, size, batch_dim)
        weighted, leaf = (
            any(p.ndim > 1 for p in module.parameters()),
            not any(True for _ in module.children()),
        )
        points.append(Point(name, type(module).__name__, shape, not reason, reason, weighted, leaf))
    float_input = not lookups and any(can_mix(x, size, batch_dim) for x in leaves((args, kwargs)))
    report = Audit(tuple(points), float_input)
    return replace(report, chosen=auto_layers(report)) if stage_ends(points) else report


def _probe(leaf: Any, size: int, batch_dim: int) -> Any:
    """A few samples of a tensor, as a leaf of the autograd graph."""
    if not isinstance(leaf, Tensor) or leaf.ndim <= batch_dim or leaf.shape[batch_dim] != size:
        return leaf
    few = leaf.detach().narrow(batch_dim, 0, min(size, _SAMPLES)).clone()
    return few.requires_grad_() if few.is_floating_point() or few.is_complex() else few


@contextmanager
def _undisturbed(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Eval mode, module by module, with the global random state kept."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {
        leaf.device for leaf in leaves(inputs) if isinstance(leaf, Tensor) and leaf.device.type == "cuda"
    }
    fork = torch.random.fork_rng([device for device in devices if torch.cuda.is_available()])
    try:
        for module, _ in modes:
            module.training = False
        with fork:
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _heads(output: Any) -> list[Any]:
    """The nodes that made the output."""
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    return [x.grad_fn for x in leaves(output) if isinstance(x, Tensor) and x.grad_fn is not None]


def _graph(heads: list[Any]) -> tuple[dict[int, list[int]], dict[Any, int]]:
    """The autograd graph below the heads, its nodes numbered; node 0 stands above all heads."""
    number: dict[Any, int] = {}
    graph: dict[int, list[int]] = {_ROOT: []}
    stack = list(heads)
    for head in heads:
        graph[_ROOT].append(number.setdefault(head, len(number) + 1))
    while stack:
        node = stack.pop()
        if number[node] in graph:
            continue
        below = [after for after, _ in node.next_functions if after is not None]
        graph[number[node]] = [number.setdefault(after, len(number) + 1) for after in below]
        stack.extend(below)
    return graph, number


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


def _verdict(
    outputs: list[Any],
    graph: dict[int, list[int]],
    number: dict[Any, int],
    dominating: set[int],
    sources: set[int],
    size: int,
    batch_dim: int,
) -> tuple[tuple[int, ...] | None, str]:
    """The feature's shape, and why the layer is not a true mixing point ("" if it is)."""
    if not outputs:
        return None, "never called"
    output, marks = outputs[0]
    tensors = [x for x in leaves(output) if can_mix(x, size, batch_dim)]
    shape = tuple(tensors[0].shape) if tensors else None
    if len(outputs) > 1:
        return shape, f"called {len(outputs)} times in one forward"
    if shape is None:
        others = [tuple(x.shape) for x in leaves(output) if isinstance(x, Tensor) and x.is_floating_point()]
        return None, f"no batch axis (shape {others[0]})" if others else "no floating-point output"
    if not any(x.requires_grad for x in tensors):
        return shape, UNSEEN
    nodes = {number[mark] for mark in marks if mark in number}
    if not nodes:
        return shape, "does not reach the output"
    whole = nodes <= dominating if len(nodes) == 1 else separates(graph, nodes, _ROOT, sources)
    return shape, "" if whole else "part of the features goes round it (residual or parallel branch)"
