"""Find a model's true mixing points in its graph of function nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import chainer
import chainer.functions as F
import numpy as np
from chainer import Link, Variable
from chainer.functions.array.get_item import GetItem
from chainer.functions.connection.embed_id import EmbedIDFunction
from chainer.variable import VariableNode

from mixlayers._audit import Audit
from mixlayers._batch import batch_size, can_mix
from mixlayers._mixer import call_of
from mixlayers._tree import leaves, tree_map
from mixlayers._verdicts import Call, Layer, output_tensors, read_graph, report
from mixlayers_chainer._blend import Array, device_of
from mixlayers_chainer._framework import CHAINER
from mixlayers_chainer._hooks import Hook, hook, mixable, named_layers, unhook

_SAMPLES = 3


def audit(model: Link, example: Any, *, batch_dim: int = 0) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    One forward pass of three samples with `chainer.config.train` False; each link's output gets a node of its
    own in the graph, and a link is a true mixing point if no path from the output to the input goes round its
    node. Mixing at any other link (inside a residual branch, say) mixes only part of the features. What
    reaches the output outside the graph (`x.array`, an attention mask) is not seen. Links of lazy size get
    their parameters, as in any first forward.

    Args:
        model: Any link; its state, the configuration and the global random state are left as they are.
        example: What the model takes: an array or Variable, a tuple of positional or a dict of keyword
            arguments.
        batch_dim: Axis that holds the batch, in the input and in the links.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    return audit_call(model, *call_of(example), batch_dim)


def audit_call(model: Link, args: tuple[Any, ...], kwargs: dict[str, Any], batch_dim: int) -> Audit:
    """`audit` for one call of the model."""
    size = batch_size(CHAINER, (args, kwargs), batch_dim)
    args, kwargs = tree_map(lambda leaf: _probe(leaf, size, batch_dim), (args, kwargs))
    size = min(size, _SAMPLES)
    given = {x.node for x in leaves((args, kwargs)) if isinstance(x, Variable) and CHAINER.is_float(x)}
    links: dict[str, Link] = {}
    for name, link in named_layers(model):
        if not any(link is other for other in links.values()):
            links[name] = link
    marks = {name: _Mark(given, size, batch_dim) for name in links}
    calls: dict[str, list[Call]] = {}
    for name, mark in marks.items():
        mark.calls, mark.name = calls, name
        hook(links[name], mark)
    try:
        with _undisturbed(model):
            output = model(*args, **kwargs)
    finally:
        for name, mark in marks.items():
            unhook(links[name], mark)
    heads = [
        x.node
        for x in output_tensors(CHAINER, output)
        if isinstance(x, Variable) and x.creator_node is not None
    ]
    graph = read_graph(heads, _below, handle=lambda node: node)
    inputs = {at for node, at in graph.number.items() if node in given}
    indices = {at: _index(node, size, batch_dim) for node, at in graph.number.items()}
    lookups = {at for at, index in indices.items() if index is not None and _varies(index, batch_dim)}
    lookups = lookups or {at for at, index in indices.items() if index is not None}
    layers = {name: _layer(link) for name, link in links.items()}
    return report(CHAINER, layers, calls, graph, inputs, lookups, (args, kwargs), size, batch_dim)


class _Mark(Hook):
    """Gives each output of a link a node of its own, and notes it."""

    calls: dict[str, list[Call]]
    name: str

    def __init__(self, given: set[VariableNode], size: int, batch_dim: int) -> None:
        self.given, self.size, self.batch_dim = given, size, batch_dim

    def after(self, link: Link, output: Any) -> Any:
        marked = tree_map(lambda x: F.identity(x) if self._traced(x) else x, output)
        own = mixable(link, marked)
        nodes = [x.node for x in leaves(own) if self._traced(x)]
        self.calls.setdefault(self.name, []).append(Call([(own, self.batch_dim)], nodes))
        return marked

    def _traced(self, x: Any) -> bool:
        if not isinstance(x, Variable) or not can_mix(CHAINER, x, self.size, self.batch_dim):
            return False
        return x.creator_node is not None or x.node in self.given


def _layer(link: Link) -> Layer:
    weighted = any(p.is_initialized and p.ndim > 1 for p in link.params())
    return Layer(type(link).__name__, weighted, leaf=not any(True for _ in link.children()))


def _probe(leaf: Any, size: int, batch_dim: int) -> Any:
    """A few samples; floating-point ones as a leaf of the graph."""
    if not CHAINER.is_tensor(leaf) or leaf.ndim <= batch_dim or leaf.shape[batch_dim] != size:
        return leaf
    with chainer.using_device(device_of(leaf)):
        few = chainer.as_array(leaf)[(slice(None),) * batch_dim + (slice(_SAMPLES),)].copy()
    return Variable(few) if isinstance(leaf, Variable) or CHAINER.is_float(leaf) else few


@contextmanager
def _undisturbed(model: Link) -> Iterator[None]:
    """Evaluation mode; what links remember (a recurrent state) and the global random state are kept.

    Links without parameters yet draw them now, in the order of any first forward: those draws count.
    """
    settled = all(p.is_initialized for p in model.params())
    memories = [
        (link, {name: value for name, value in vars(link).items() if name not in link._persistent})
        for link in model.links()
    ]
    state = np.random.get_state()  # noqa: NPY002  # Chainer draws from the global generator
    try:
        with chainer.using_config("train", False), chainer.force_backprop_mode():
            yield
    finally:
        if settled:
            np.random.set_state(state)  # noqa: NPY002
        for link, memory in memories:
            vars(link).update(memory)


def _below(node: VariableNode) -> Sequence[VariableNode]:
    maker = node.creator_node
    return () if maker is None else [x for x in maker.inputs if x.dtype is not None and x.dtype.kind in "fc"]


def _index(node: VariableNode, size: int, batch_dim: int) -> Array | None:
    """The batch-wise indices by which a node looks up."""
    maker = node.creator_node
    found: Sequence[Any] = ()
    if isinstance(maker, EmbedIDFunction):
        found = [maker.inputs[0].data]
    elif isinstance(maker, GetItem):
        found = maker.slices
    for index in found:
        batched = CHAINER.is_tensor(index) and index.ndim > batch_dim and index.shape[batch_dim] == size
        if batched and index.dtype.kind in "iu":
            return index
    return None


def _varies(index: Array, batch_dim: int) -> bool:
    """Whether the indices differ from sample to sample; positions don't, though they may be repeated for each."""
    with chainer.using_device(device_of(index)):
        return bool((index != index[(slice(None),) * batch_dim + (slice(1),)]).any())
