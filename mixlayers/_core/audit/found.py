"""What the graph of a model tells that was traced, and did not run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mixlayers._core.audit.dominators import separates
from mixlayers._core.audit.places import auto_layers, stage_ends
from mixlayers._core.audit.report import Audit, Point
from mixlayers._core.audit.verdicts import ROOT, Call, Graph, Layer, report
from mixlayers._core.batch.mix import can_mix
from mixlayers._core.framework.framework import Framework
from mixlayers._core.plan.plan import INPUT

IN_LOOP: Final = "runs inside a loop or branch (scan, while, cond)"
NOT_FIRST: Final = "its first axis is not the samples' (a vmap over them, or time comes first)"
NOT_TOLD: Final = (
    "which axis is the samples' is not known: give an example of another size than its other axes"
)


@dataclass(frozen=True)
class Found:
    """What a model's audit says.

    Attributes:
        report: Its layers.
        shapes: What each place mixes, by name: the first feature's shape, its batch axis first.
        whole_input: Whether all that holds samples is mixed at the input.
    """

    report: Audit
    shapes: Mapping[str, tuple[int, ...]]
    whole_input: bool


def found(
    framework: Framework,
    layers: Mapping[str, Layer],
    calls: Mapping[str, list[Call]],
    inside: Mapping[str, Any],
    graph: Graph,
    samples: Mapping[int, Any],
    size: int,
    beside: Mapping[str, int],
    otherwise: Mapping[str, str] | None = None,
) -> Found:
    """Judge the layers of a traced model.

    Args:
        framework: Whose arrays were traced.
        layers: Those that were called, by name.
        calls: Their calls, in the order in which they finish.
        inside: What layers return that run in loops and branches.
        graph: The outputs' graph.
        samples: What the model was given that has as many rows as there are samples, by its node.
        size: How many samples there are.
        beside: The nodes of outputs beside the logits, by name.
        otherwise: Why layers are no true mixing points, by name, that the graph may take for some.

    Raises:
        ValueError: If the output does not depend on the samples.
    """
    known = _as_called(layers, [*calls])
    own = {name: each for name, each in calls.items() if name in known}
    given = [*samples.values()]
    told = report(framework, known, own, graph, {*samples}, set(), given, size, 0, beside=beside)
    features = {node for node, x in samples.items() if can_mix(framework, x, size, 0)}
    whole = bool(features) and separates(graph.below, features, ROOT, {*samples})
    points = tuple(_judged(inside, otherwise or {}, point) for point in _in_order([*told], inside))
    told = replace(told, points=points, float_input=whole, chosen=())
    told = replace(told, chosen=auto_layers(told)) if stage_ends(points) else told
    first = next((tuple(x.shape) for x in given if can_mix(framework, x, size, 0)), None)
    shapes = {point.name: point.shape for point in points if point.shape}
    return Found(told, {**({INPUT: first} if first else {}), **shapes}, whole)


def _as_called(layers: Mapping[str, Layer], finished: Sequence[str]) -> dict[str, Layer]:
    """Layers in the order in which the model calls them, as other frameworks have them: NNX tells them by their names.

    Args:
        layers: By name.
        finished: The names of those that were called, in the order in which they finished.
    """
    first: dict[str, int] = {}
    for at, name in enumerate(finished):
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):  # a layer begins before what is in it
            first.setdefault(".".join(parts[:depth]), at)
    order = sorted(layers, key=lambda name: (first.get(name, len(finished)), name.count(".")))
    return {name: layers[name] for name in order}


def _in_order(points: Sequence[Point], inside: Collection[str]) -> list[Point]:
    """The layers in the order in which they finish: those in loops come before the layer that holds the loop."""
    at = {point.name: number for number, point in enumerate(points)}

    def finished(point: Point) -> tuple[int, bool]:
        name = point.name
        while name in inside and "." in name:
            name = name.rpartition(".")[0]
        return at.get(name, at[point.name]), point.name not in inside

    return sorted(points, key=finished)


def _judged(inside: Mapping[str, Any], otherwise: Mapping[str, str], point: Point) -> Point:
    """A layer's verdict, where it ran in a loop, or has its samples elsewhere."""
    if point.name not in inside:
        return (
            replace(point, true=False, reason=otherwise[point.name], shape=None)
            if point.name in otherwise
            else point
        )
    return replace(point, true=False, reason=IN_LOOP, shape=tuple(inside[point.name].shape) or None)
