"""Candidate layers: from what the user says, or from the model's own stages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from inspect import isroutine
from math import ceil
from typing import Any

from mixlayers._core.audit.report import PARTIAL, Audit, Point
from mixlayers._core.methods.method import Method
from mixlayers._core.plan.plan import INPUT

Layers = Any
"""What `layers=` takes: "auto", "stages", "input", a name, a glob, a compiled regular expression, a module
type, a module, a predicate `(name, module) -> bool`, or a sequence of these."""


def select_layers(layers: Layers, modules: Mapping[str, object]) -> tuple[str, ...]:
    """The places that `layers` names, "input" first, the rest in the model's order.

    Args:
        layers: Names and the like; "auto" and "stages" are for `auto_layers`.
        modules: The model's modules by name, without the model itself.

    Raises:
        ValueError: If an item matches nothing; lists the candidates.
        TypeError: If an item is none of the forms.
    """
    items = (
        list(layers)
        if isinstance(layers, Sequence | set | frozenset) and not isinstance(layers, str)
        else [layers]
    )
    if not items:
        raise ValueError("layers is empty: name at least one layer, or use 'auto'.")
    chosen: set[str] = set()
    for item in items:
        matched = {INPUT} if isinstance(item, str) and item == INPUT else _matches(item, modules)
        if not matched:
            raise ValueError(f"layers: {item!r} matches no layer of the model. {_candidates(modules)}")
        chosen |= matched
    return tuple(name for name in (INPUT, *modules) if name in chosen)


def named_places(method: Method, layers: Layers, modules: Mapping[str, object]) -> tuple[str, ...] | None:
    """The places that the user named for a method; None if an audit is to choose them.

    Raises:
        ValueError: If a method that mixes the input is given layers.
    """
    if isinstance(layers, str) and layers in ("auto", "stages") and method.hidden:
        return None
    places = (INPUT,) if isinstance(layers, str) and layers == "auto" else select_layers(layers, modules)
    if not method.hidden and places != (INPUT,):
        raise ValueError(
            f"{method!r} mixes the input, got layers={layers!r}: leave layers out, "
            "or use ManifoldMixup or PatchUp, which mix hidden layers."
        )
    return places


def _matches(item: Any, modules: Mapping[str, object]) -> set[str]:
    test: Callable[[str, object], bool]
    if isinstance(item, str):
        if item in modules:
            return {item}
        test = lambda name, _: fnmatchcase(name, item)  # noqa: E731  # one of five tests, side by side
    elif isinstance(item, re.Pattern):
        test = lambda name, _: item.fullmatch(name) is not None  # noqa: E731
    elif isinstance(item, type):
        test = lambda _, module: isinstance(module, item)  # noqa: E731
    elif any(module is item for module in modules.values()):
        test = lambda _, module: module is item  # noqa: E731
    elif isroutine(item) or isinstance(item, partial):
        test = item
    else:
        raise TypeError(
            "layers takes names, globs, compiled regular expressions, module types, modules of this model, and "
            f"predicates (name, module) -> bool, got {type(item).__name__}: if a module, is it in the model?"
        )
    return {name for name, module in modules.items() if test(name, module)}


def _candidates(modules: Mapping[str, object], most: int = 30) -> str:
    names = sorted(modules, key=lambda name: name.count("."))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"Its layers are: {', '.join([INPUT, *names[:most]])}{more}. See audit(model, example)."


def stage_ends(points: Sequence[Point]) -> tuple[str, ...]:
    """The ends of the trunk's stages, among a model's true mixing points, in the order they run.

    The trunk is the outermost family of numbered siblings that are made of layers themselves (layer1 to
    layer4, blocks.0 to blocks.11, stage1 to stage3). A model without one is cut at its weighted layers, each
    stage ending with the last point of the same shape before the next (the activation, as a rule), and where
    a layer without weights joins branches that hold some; the output layer ends none.
    """
    true = [point for point in points if point.true]
    families: dict[tuple[str, str], list[str]] = {}
    for point in true:
        if point.weighted and not point.leaf:
            parent, _, own = point.name.rpartition(".")
            families.setdefault((parent, own.rstrip("0123456789")), []).append(point.name)
    trunks = [(name[0].count(".") + bool(name[0]), -len(family), family) for name, family in families.items()]
    trunks = [trunk for trunk in trunks if len(trunk[2]) > 1]
    if trunks:
        return tuple(min(trunks, key=lambda trunk: trunk[:2])[2])
    ends: list[str] = []
    shape = None
    last = [point.name for point in points if point.weighted and point.leaf and point.shape][-1:]
    branches = False
    for point in points:
        if not point.true:
            branches |= point.weighted and point.leaf and point.reason == PARTIAL
            continue
        if point.name in last:
            break  # the output
        joins, branches = branches and point.leaf and not point.weighted, False
        if (point.weighted and point.leaf) or joins:
            ends.append(point.name)
            shape = point.shape
        elif ends and point.shape == shape and not point.weighted:
            ends[-1] = point.name
    return tuple(ends)


def auto_layers(report: Audit, rule: str = "auto") -> tuple[str, ...]:
    """The places that a rule picks among the true mixing points.

    Args:
        report: The audited model.
        rule: "auto": the input and the ends of stages 1 and 2 of the trunk's four, early, where the papers mix.
            "stages": the input and the ends of all stages. Token indices as input are left out.

    Raises:
        ValueError: If no hidden layer is a true mixing point.
    """
    ends = stage_ends(report.points)
    if not ends:
        raise ValueError(
            "found no hidden layer that everything passes through, besides the output: "
            "name layers yourself, or mix the input with layers='input'. See audit(model, example)."
        )
    first_two = [ends[ceil(len(ends) * quarters / 4) - 1] for quarters in (1, 2)]
    return (
        *((INPUT,) if report.float_input else ()),
        *dict.fromkeys(ends if rule == "stages" else first_two),
    )
