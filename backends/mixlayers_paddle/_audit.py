"""Find a model's true mixing points in its autograd graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import paddle
from paddle import Tensor, nn

from mixlayers._audit import Audit
from mixlayers._batch import batch_size, can_mix
from mixlayers._mixer import call_of
from mixlayers._tree import leaves, tree_map
from mixlayers._verdicts import Call, Layer, output_tensors, read_graph, report
from mixlayers_paddle._framework import PADDLE
from mixlayers_paddle._hooks import joined, parts_of

_SAMPLES = 3
_LOOK_UP = "EmbeddingGradNode"


def audit(model: nn.Layer, example: Any, *, batch_dim: int = 0) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    One forward pass of three samples in eval mode; each layer's output gets a node of its own in the
    autograd graph, and a layer is a true mixing point if no path from the output to the input goes round
    its node. Mixing at any other layer (inside a residual branch, say) mixes only part of the features.
    What reaches the output without gradients (a detached tensor, an attention mask) is not seen, nor is a
    look-up by token indices that is neither a layer of its own nor F.embedding.

    Args:
        model: Any layer; its state, mode and the global random state are left as they are.
        example: What the model takes: a tensor, a tuple of positional or a dict of keyword arguments.
        batch_dim: Axis that holds the batch, in the input and in the layers.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    return audit_call(model, *call_of(example), batch_dim)


def audit_call(
    model: nn.Layer,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    batch_dim: int,
    masks: Sequence[Any] = (),
) -> Audit:
    """`audit` for one call of the model, whose padding masks are no features."""
    PADDLE.check_mixing()
    _check_unwatched()
    size = batch_size(PADDLE, (args, kwargs), batch_dim)
    args, kwargs = tree_map(lambda leaf: _probe(leaf, size, batch_dim, masks), (args, kwargs))
    size = min(size, _SAMPLES)
    names = {layer: name for name, layer in model.named_sublayers()}
    seen: dict[str, list[Call]] = {}
    made: dict[int, Any] = {}  # the nodes that layers of their own look up with, and their indices

    def traced(x: Any, axis: int) -> bool:
        return can_mix(PADDLE, x, size, axis) and not x.stop_gradient

    def own_node(axis: int, x: Any) -> Any:
        return x.clone() if traced(x, axis) else x

    def mark(layer: nn.Layer, inputs: Any, output: Any) -> Any:
        if not layer._sub_layers:
            _note_look_up(made, inputs, output, size, batch_dim)
        parts, alive = [], []
        for part, axis in parts_of(layer, output, batch_dim):
            marked = tree_map(partial(own_node, axis), part)
            parts.append((marked, axis))
            # the nodes are taken now: `marked.add_(residual)` would put another in their place
            alive += [x.grad_fn for x in leaves(marked) if traced(x, axis)]
        call = Call([*parts, (alive, 0)], [node.node_ptr() for node in alive])
        seen.setdefault(names[layer], []).append(call)
        return joined(layer, [part for part, _ in parts])

    handles = [layer.register_forward_post_hook(mark) for layer in names]
    try:
        with _undisturbed(model), paddle.enable_grad():
            output = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    heads = [x.grad_fn for x in output_tensors(PADDLE, output) if x.grad_fn is not None]
    kinds: dict[Any, str] = {}

    def handle_of(node: Any) -> int:
        pointer: int = node.node_ptr()  # Python objects come and go, and their ids are given out again
        kinds[pointer] = node.name()
        return pointer

    graph = read_graph(heads, lambda node: [x for x in node.next_functions if x is not None], handle_of)
    tensors = [x for x in leaves((args, kwargs)) if isinstance(x, Tensor) and not x.stop_gradient]
    pointers = {x.grad_fn.node_ptr() for x in tensors}
    inputs = {at for node, at in graph.number.items() if node in pointers}
    varies = {node for node, index in made.items() if index is not None and _varies(index, batch_dim)}
    varies = varies or {node for node, index in made.items() if index is not None}
    lookups = {
        at
        for node, at in graph.number.items()
        if node in varies or (kinds[node] == _LOOK_UP and node not in made)
    }
    layers = {name: _layer(layer) for layer, name in names.items()}
    return report(PADDLE, layers, seen, graph, inputs, lookups, (args, kwargs), size, batch_dim)


def _check_unwatched() -> None:
    """Raise if what is saved for backward is being counted: the audit's own would be counted with it."""
    try:
        with paddle.autograd.saved_tensors_hooks(lambda x: x, lambda x: x):
            pass
    except ValueError as error:
        raise ValueError(
            "a model cannot be audited while paddle.autograd.saved_tensors_hooks are active, as in "
            "recompute(model, ..., use_reentrant=False): give an example, wrap(model, example=images)."
        ) from error


def _layer(layer: nn.Layer) -> Layer:
    weighted = any(p.ndim > 1 for p in layer.parameters())
    return Layer(type(layer).__name__, weighted, leaf=not layer._sub_layers)


def _probe(leaf: Any, size: int, batch_dim: int, masks: Sequence[Any]) -> Any:
    """A few samples of a tensor, as a leaf of the autograd graph."""
    if not isinstance(leaf, Tensor) or leaf.ndim <= batch_dim or leaf.shape[batch_dim] != size:
        return leaf
    few = paddle.slice(leaf.detach(), [batch_dim], [0], [min(size, _SAMPLES)]).clone()
    few.stop_gradient = not PADDLE.is_float(few) or any(leaf is mask for mask in masks)
    return few


@contextmanager
def _undisturbed(model: nn.Layer) -> Iterator[None]:
    """Eval mode, layer by layer, with the global random state kept."""
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    state = paddle.get_rng_state()
    try:
        for layer, _ in modes:
            layer.training = False
        yield
    finally:
        paddle.set_rng_state(state)
        for layer, mode in modes:
            layer.training = mode


def _note_look_up(made: dict[int, Any], inputs: Any, output: Any, size: int, batch_dim: int) -> None:
    """A layer of its own that takes indices and nothing else: which node looks up, and by which indices?"""
    taken = [x for x in leaves(inputs) if isinstance(x, Tensor)]
    if not taken or any(PADDLE.is_float(x) for x in taken):
        return
    index = next((x for x in taken if x.ndim > batch_dim and x.shape[batch_dim] == size), None)
    for x in leaves(output):
        if isinstance(x, Tensor) and x.grad_fn is not None:
            made[x.grad_fn.node_ptr()] = index


def _varies(index: Tensor, batch_dim: int) -> bool:
    """Whether the indices differ from sample to sample; positions don't, though they may be repeated for each."""
    first = paddle.slice(index, [batch_dim], [0], [1])
    return bool((index != first).any())
