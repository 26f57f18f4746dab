"""Find a model's true mixing points in its graph of function nodes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import chainer
import chainer.functions as F
from chainer import Link, Variable
from chainer.functions.array.get_item import GetItem
from chainer.functions.connection.embed_id import EmbedIDFunction
from chainer.variable import VariableNode

from mixlayers._core.audit.experiment import Experiment
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.stage import AUDITING, Few, ModelRaised, arrays_of, is_batched
from mixlayers._core.audit.trial import Trial
from mixlayers._core.audit.verdicts import Call, Layer, beside_output, output_tensors, read_graph, report
from mixlayers._core.batch.mix import can_mix
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.model.mixer import call_of
from mixlayers_chainer._blend import Array, device_of
from mixlayers_chainer._framework import CHAINER
from mixlayers_chainer._hooks import Hook, hook, mixable, unhook
from mixlayers_chainer._stage import ChainerStage


def audit(model: Link, example: Any, *, batch_dim: int = 0) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    A link is one if two judges say so. One forward of four samples, in training mode and without chance, gives each
    link's output a node of its own in the graph: no path from the output to the input may go round it. Further
    forwards give every sample another's features there: each output must then be the other's own, which also sees
    what reaches the output outside the graph (`x.array`, token ids). Links of lazy size get their parameters, as in
    any first forward.

    Args:
        model: Any link; its state, the configuration and the global random states are left as they are.
        example: What the model takes: an array or Variable, a tuple of positional or a dict of keyword
            arguments. Of more than four samples those are taken that differ most in their whole numbers and bools.
        batch_dim: Axis that holds the batch, in the input and in the links.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    return put_on_trial(model, *call_of(example), batch_dim).report()


def put_on_trial(model: Link, args: tuple[Any, ...], kwargs: dict[str, Any], batch_dim: int) -> Trial:
    """Run one call of the model on a few samples, read its graph, and be ready to swap samples."""
    stage = ChainerStage(model)
    few = Few.of(stage, args, kwargs, batch_dim)
    experiment = Experiment(stage, few, {})
    args, kwargs = tree_map(partial(_probe, few), (few.args, few.kwargs))
    given = {x.node for x in leaves((args, kwargs)) if isinstance(x, Variable) and CHAINER.is_float(x)}
    links = {name: link for name, link in stage.links.items() if name}
    marks = {name: _Mark(given, few.size, batch_dim) for name in links}
    calls: dict[str, list[Call]] = {}
    try:
        stage.settle(few.args, few.kwargs)
        for name, mark in marks.items():
            mark.calls, mark.name = calls, name
            hook(links[name], mark)
        with stage.quiet(few.size), chainer.force_backprop_mode():
            output = model(*args, **kwargs)
    except Exception as error:
        raise ModelRaised(error, few, CHAINER) from error
    finally:
        for name, mark in marks.items():
            unhook(links[name], mark)
    clean = arrays_of(stage, output)
    try:
        found, unreadable = _read(output, links, calls, given, few, (args, kwargs)), ""
    except ValueError as error:
        found, unreadable = None, str(error)
    return Trial(found, unreadable, experiment, clean, lambda: stage.chooses)


def _read(
    output: Any,
    links: dict[str, Link],
    calls: dict[str, list[Call]],
    given: set[VariableNode],
    few: Few,
    inputs: Any,
) -> Audit:
    """The graph's verdicts."""
    heads = [
        x.node
        for x in output_tensors(CHAINER, output)
        if isinstance(x, Variable) and x.creator_node is not None
    ]
    others = beside_output(CHAINER, output)
    made = {
        name: x.node for name, x in others.items() if isinstance(x, Variable) and x.creator_node is not None
    }
    graph = read_graph(heads, _below, lambda node: node, made.values())
    beside = {name: graph.number[node] for name, node in made.items()}
    inputs_at = {at for node, at in graph.number.items() if node in given}
    indices = {at: _index(node, few.size, few.batch_dim) for node, at in graph.number.items()}
    lookups = {at for at, index in indices.items() if index is not None and _varies(index, few.batch_dim)}
    lookups = lookups or {at for at, index in indices.items() if index is not None}
    layers = {name: _layer(link) for name, link in links.items()}
    return report(
        CHAINER, layers, calls, graph, inputs_at, lookups, inputs, few.size, few.batch_dim, beside=beside
    )


class _Mark(Hook):
    """Gives each output of a link a node of its own, and notes it."""

    calls: dict[str, list[Call]]
    name: str

    def __init__(self, given: set[VariableNode], size: int, batch_dim: int) -> None:
        self.given, self.size, self.batch_dim = given, size, batch_dim

    def after(self, link: Link, output: Any) -> Any:
        if not AUDITING.get():  # another thread's call
            return output
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


def _probe(few: Few, leaf: Any) -> Any:
    """A tensor's samples; floating-point ones as a leaf of the graph."""
    if not is_batched(CHAINER, leaf, few.size, few.batch_dim):
        return leaf
    with chainer.using_device(device_of(leaf)):
        copy = chainer.as_array(leaf).copy()
    return Variable(copy) if isinstance(leaf, Variable) or CHAINER.is_float(leaf) else copy


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
