"""From a traced forward to the audit's verdicts, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

from mixlayers._core.audit.dominators import on_every_path, separates
from mixlayers._core.audit.places import auto_layers, stage_ends
from mixlayers._core.audit.report import NO_AXIS, PARTIAL, UNREACHED, UNSEEN, Audit, Point, Reach
from mixlayers._core.batch.mix import can_mix
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import leaves

_JUDGED: Final = ("logits", "pred_boxes", "pred_masks", "prediction_logits", "seq_relationship_logits")

ROOT = 0
"""The node above all outputs."""


@dataclass(frozen=True)
class Call:
    """The record of one call of a layer.

    Attributes:
        parts: The marked output, part by part, with each part's batch axis; it keeps its nodes alive.
        nodes: Handles of the gradient nodes of its tensors that can be mixed, as they were when the layer
            returned: `marked += residual` puts another in their place. None if gradients were not recorded.
    """

    parts: Sequence[tuple[Any, int]]
    nodes: Sequence[Hashable]


@dataclass(frozen=True)
class Layer:
    """A layer's own columns of the report: see `Point`."""

    kind: str
    weighted: bool
    leaf: bool


@dataclass(frozen=True)
class Graph:
    """A gradient graph with its nodes numbered.

    Attributes:
        below: Node -> the nodes that it was computed from; `ROOT` stands above all outputs.
        number: A node's handle -> its number.
    """

    below: Mapping[int, Sequence[int]]
    number: Mapping[Hashable, int]


def read_graph(
    heads: Sequence[Any],
    below: Callable[[Any], Iterable[Any]],
    handle: Callable[[Any], Hashable],
    beside: Iterable[Any] = (),
) -> Graph:
    """Number the nodes below the heads.

    Args:
        heads: The nodes that made the outputs.
        below: A node's own inputs.
        handle: What a node is known by.
        beside: Nodes that made what else the model returned.
    """
    number: dict[Hashable, int] = {}
    graph: dict[int, list[int]] = {ROOT: []}
    stack = [*heads, *beside]
    for head in stack:
        number.setdefault(handle(head), len(number) + 1)
    for head in heads:
        graph[ROOT].append(number[handle(head)])
    while stack:
        node = stack.pop()
        at = number[handle(node)]
        if at in graph:
            continue
        after = list(below(node))
        graph[at] = [number.setdefault(handle(other), len(number) + 1) for other in after]
        stack.extend(after)
    return Graph(graph, number)


def output_tensors(framework: Framework, output: Any) -> list[Any]:
    """The tensors that count as the model's output: the logits, where they have that name, and what goes with them."""
    if isinstance(output, Mapping) and "logits" in output:
        output = [value for name, value in output.items() if name in _JUDGED]
    return [x for x in leaves(output) if framework.is_tensor(x)]


def beside_output(framework: Framework, output: Any) -> dict[str, Any]:
    """A model's outputs beside its logits, tensor by tensor (hidden states, a second head)."""
    if not (isinstance(output, Mapping) and "logits" in output):
        return {}
    return {
        f"{name}[{at}]" if at else name: x
        for name, value in output.items()
        if name not in _JUDGED
        for at, x in enumerate(leaves(value))
        if framework.is_tensor(x) and framework.is_float(x) and x.ndim
    }


def report(
    framework: Framework,
    layers: Mapping[str, Layer],
    calls: Mapping[str, Sequence[Call]],
    graph: Graph,
    inputs: Set[int],
    lookups: Set[int],
    given: Any,
    size: int,
    batch_dim: int,
    begun: Set[int] = frozenset(),
    beside: Mapping[str, int] | None = None,
) -> Audit:
    """Judge every layer of a traced model.

    Args:
        framework: Whose tensors these are.
        layers: The model's layers by name, without the model itself.
        calls: The calls of those that ran, in the order in which they finished.
        graph: The gradient graph below the output.
        inputs: Nodes of the inputs themselves.
        lookups: Nodes that look up by batch-wise indices.
        given: What the model was called with.
        size: Samples in it.
        batch_dim: Their axis.
        begun: Nodes where the gradients of samples begin that were looked up in a frozen table.
        beside: Nodes of what the model returned beside its outputs, by `beside_output`'s names.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    # picking a sample's own features, such as its last token's, is no look-up: its table holds samples already
    lookups = {
        node
        for node in lookups
        if all(separates(graph.below, frozenset(), under, inputs | lookups) for under in graph.below[node])
    }
    lookups |= begun
    sources = inputs | lookups
    if not sources or separates(graph.below, frozenset(), ROOT, sources):
        raise ValueError(
            "the model's output does not depend on the example in a differentiable way, so its layers cannot "
            "be audited: pass floating-point inputs or token indices that reach the output, or name layers."
        )
    dominating = on_every_path(graph.below, ROOT, sources)
    points = []
    for name in (*calls, *(name for name in layers if name not in calls)):
        shape, reason = _verdict(framework, calls.get(name, []), graph, dominating, sources, size)
        layer = layers[name]
        points.append(Point(name, layer.kind, shape, not reason, reason, layer.weighted, layer.leaf))
    float_input = not lookups and any(can_mix(framework, x, size, batch_dim) for x in leaves(given))
    nodes = {name: _nodes(own[0], graph) for name, own in calls.items() if len(own) == 1}
    found = Audit(tuple(points), float_input, reach=Reach(graph.below, sources, beside or {}, nodes))
    return replace(found, chosen=auto_layers(found)) if stage_ends(points) else found


def _nodes(call: Call, graph: Graph) -> set[int]:
    return {graph.number[node] for node in call.nodes if node in graph.number}


def _verdict(
    framework: Framework,
    calls: Sequence[Call],
    graph: Graph,
    dominating: Set[int],
    sources: Set[int],
    size: int,
) -> tuple[tuple[int, ...] | None, str]:
    """The feature's shape, and why the layer is not a true mixing point ("" if it is)."""
    if not calls:
        return None, "never called"
    parts = [(x, axis) for part, axis in calls[0].parts for x in leaves(part)]
    tensors = [x for x, axis in parts if can_mix(framework, x, size, axis)]
    shape = tuple(tensors[0].shape) if tensors else None
    if len(calls) > 1:
        return shape, f"called {len(calls)} times in one forward"
    if shape is None:
        others = [tuple(x.shape) for x, _ in parts if framework.is_tensor(x) and framework.is_float(x)]
        return None, f"{NO_AXIS} (shape {others[0]})" if others else "no floating-point output"
    if not calls[0].nodes:
        return shape, UNSEEN
    nodes = _nodes(calls[0], graph)
    if not nodes:
        return shape, UNREACHED
    whole = nodes <= dominating if len(nodes) == 1 else separates(graph.below, nodes, ROOT, sources)
    return shape, "" if whole else PARTIAL
