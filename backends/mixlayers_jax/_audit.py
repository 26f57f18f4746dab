"""Find a model's true mixing points in its jaxpr: the model is traced, and not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from mixlayers._core.audit.found import NOT_FIRST, NOT_TOLD, Found, found
from mixlayers._core.audit.verdicts import ROOT, Call, Graph, Layer, beside_output, output_tensors
from mixlayers._core.batch.mix import batch_size
from mixlayers._core.framework.tree import tree_map
from mixlayers_jax._framework import JAX, Jax

_TAG: Final = "mixlayers:"
_CALLS: Final = {
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "custom_vmap_call", "shard_map", "custom_lin",
}  # fmt: skip
"""Primitives that merely call a jaxpr, which is read as if it stood in their place."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Marks:
    """In a plan's stead while a model is traced: gives each layer's output a node of its own, that bears its name."""

    def mixed(self, place: str, x: Any, vmaps: int = 0, part: int = 0) -> Any:
        """The output of a layer, marked.

        Args:
            place: The layer.
            x: Its output, or a part of it.
            vmaps: Over how many axes of it a model of one sample was mapped.
            part: Its number, or the first one's.
        """
        number = count(part)

        def mark(leaf: Any) -> Any:
            if not (JAX.is_tensor(leaf) and JAX.is_float(leaf)):
                return leaf
            # as a plan would see it: jax.vmap hides the axis that it maps
            shape = ",".join(map(str, leaf.shape))
            return checkpoint_name(leaf, f"{_TAG}{next(number)}:{vmaps}:{shape}:{place}")

        return tree_map(mark, x)


class _Shapes(Jax):
    """What is traced has a shape and a dtype, as an array has."""

    def is_tensor(self, x: object) -> bool:
        return hasattr(x, "shape") and hasattr(x, "dtype")


SHAPES: Final = _Shapes()


@dataclass
class Traced:
    """A model's jaxpr as a graph: numbered nodes, the marks among them.

    Attributes:
        below: Node -> the nodes that it was computed from; `ROOT` stands above the outputs.
        calls: The layers' calls, in the order in which they finish.
        inside: What layers return that run in loops and branches.
        marks: What marked nodes tell.
        apart: The layers inside of functions that JAX traces by themselves, and keeps the traces of: jit, remat.
    """

    below: dict[int, list[int]] = field(default_factory=lambda: {ROOT: []})
    calls: dict[str, list[Call]] = field(default_factory=dict)
    inside: dict[str, Any] = field(default_factory=dict)
    marks: list[_Mark] = field(default_factory=list)
    apart: set[str] = field(default_factory=set)

    def node(self, below: Sequence[int] = ()) -> int:
        """A new one."""
        number = len(self.below)
        self.below[number] = [*below]
        return number

    def reached(self, beside: Iterable[int]) -> set[int]:
        """The nodes that the outputs, and what is returned beside them, come from."""
        stack = [ROOT, *beside]
        seen = {*stack}
        while stack:
            fresh = [node for node in self.below[stack.pop()] if node not in seen]
            seen.update(fresh)
            stack += fresh
        return seen

    def read(self, jaxpr: Jaxpr, inputs: Sequence[int | None], *, apart: bool = False) -> list[int | None]:
        """The nodes of a jaxpr's outputs; None for what does not come from the inputs."""
        at: dict[Any, int | None] = dict(zip(jaxpr.invars, inputs, strict=True))

        def of(variable: Any) -> int | None:
            return None if isinstance(variable, Literal) else at.get(variable)

        for equation in jaxpr.eqns:
            own = [of(variable) for variable in equation.invars]
            called = _called(equation)
            if called is not None:
                outputs = self.read(called, own, apart=True)
            else:
                self._look_inside(equation)
                node = self.node([number for number in own if number is not None])
                outputs = [node] * len(equation.outvars)
                self._note(equation, node)
                self.apart.update(mark.layer for mark in _marked(equation) if apart)
            at.update(zip(equation.outvars, outputs, strict=True))
        return [of(variable) for variable in jaxpr.outvars]

    def _note(self, equation: JaxprEqn, node: int) -> None:
        for mark in _marked(equation):
            self.marks.append(mark)
            output: Any = equation.outvars[0].aval
            value = jax.ShapeDtypeStruct(mark.shape, output.dtype)
            if mark.number == 0:
                self.calls.setdefault(mark.layer, []).append(Call([], []))
            call = self.calls[mark.layer].pop()
            mixable = [node] if value.ndim else []
            self.calls[mark.layer].append(Call([*call.parts, (value, 0)], [*call.nodes, *mixable]))

    def _look_inside(self, equation: JaxprEqn) -> None:
        for jaxpr in jaxprs_in_params(equation.params):
            for inner in jaxpr.eqns:
                for mark in _marked(inner):
                    self.inside.setdefault(mark.layer, inner.outvars[0].aval)
                self._look_inside(inner)

    def others(self, size: int) -> dict[str, list[int]]:
        """Of the layers whose first axis is as long as there are samples: the other axes, those of jax.vmap too."""
        found: dict[str, list[int]] = {}
        for mark in self.marks:
            if mark.shape[:1] == (size,):
                found.setdefault(mark.layer, []).extend([*mark.shape[1:], *mark.hidden])
        return found

    def beside(self, size: int) -> set[tuple[str, int]]:
        """What layers return that holds no samples: the layer, and its number among the floating-point arrays."""
        own = [mark for mark in self.marks if mark.shape and not mark.vmaps]
        return {(mark.layer, mark.number) for mark in own if mark.shape[0] not in (1, size)}


class _Mark(NamedTuple):
    """What a marked node tells: the part's number in what its layer returned, its shape there, and jax.vmap's axes."""

    number: int
    vmaps: int
    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    layer: str


def _marked(equation: JaxprEqn) -> Iterator[_Mark]:
    name = equation.params.get("name", "") if equation.primitive.name == "name" else ""
    if name.startswith(_TAG):
        number, vmaps, shape, layer = name.removeprefix(_TAG).split(":", 3)
        seen = tuple(map(int, shape.split(","))) if shape else ()
        hidden = Counter(_shape(equation)) - Counter(seen)
        yield _Mark(int(number), int(vmaps), seen, tuple(hidden.elements()), layer)


def _shape(equation: JaxprEqn) -> tuple[int, ...]:
    return tuple(getattr(equation.outvars[0].aval, "shape", ()))


def _called(equation: JaxprEqn) -> Jaxpr | None:
    if equation.primitive.name in _CALLS:
        for jaxpr in jaxprs_in_params(equation.params):
            if len(jaxpr.invars) == len(equation.invars) and len(jaxpr.outvars) == len(equation.outvars):
                return jaxpr
    return None


def audit_call(
    run: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    layers: Callable[[Collection[str]], Mapping[str, Layer]],
    masks: Collection[str] = (),
) -> Looked:
    """Trace one call of a model and judge its layers.

    Args:
        run: Calls the model with marks: `run(*args, **kwargs)`.
        args, kwargs: The call; its arrays with as many rows as the first one hold samples.
        layers: Of the names that were marked, the model's layers by name.
        masks: Names of arguments that tell padding: what they do to a sample does not go round its features.

    Raises:
        ValueError: If the output does not depend on the samples.
    """
    size = batch_size(SHAPES, (args, kwargs), 0)
    samples: list[Any] = []

    def hole(leaf: Any) -> Any:
        if not SHAPES.is_tensor(leaf) or not leaf.ndim or leaf.shape[0] != size:
            return leaf
        samples.append(leaf)
        return _Hole(len(samples) - 1)

    holed = tree_map(hole, (args, kwargs), keep=masks)

    def call(values: Sequence[Any], times: int = 1) -> Any:
        def given(leaf: Any) -> Any:
            if isinstance(leaf, _Hole):
                return values[leaf.at]
            own = times > 1 and SHAPES.is_tensor(leaf) and leaf.ndim and leaf.shape[0] == size
            return np.concatenate([leaf] * times) if own else leaf

        own_args, own_kwargs = tree_map(given, holed)
        output = run(*own_args, **own_kwargs)
        return output_tensors(JAX, output), beside_output(JAX, output)

    traced, sources, outputs, shape = _read(call, samples)
    heads, names = outputs[: len(shape[0])], sorted(shape[1])
    traced.below[ROOT] = [node for node in heads if node is not None]
    beside = {name: node for name, node in zip(names, outputs[len(heads) :], strict=True) if node is not None}
    graph = Graph(traced.below, {number: number for number in traced.reached(beside.values())})
    beside_features = traced.beside(size)
    known = layers([*traced.calls, *traced.inside])
    told = found(
        SHAPES,
        known,
        traced.calls,
        traced.inside,
        graph,
        dict(zip(sources, samples, strict=True)),
        size,
        beside,
        _not_samples_first(call, samples, traced, size, beside_features),
    )
    vmaps = {mark.layer: mark.vmaps for mark in traced.marks}
    return Looked(**vars(told), vmaps=vmaps, apart=frozenset(traced.apart), beside=frozenset(beside_features))


@dataclass(frozen=True)
class Looked(Found):
    """What a model's audit says, traced by JAX.

    Attributes:
        vmaps: Over how many axes of a place's features a model of one sample was mapped, the samples' the first.
        apart, beside: As of `Traced`.
    """

    vmaps: Mapping[str, int]
    apart: frozenset[str]
    beside: frozenset[tuple[str, int]]


def _read(
    call: Callable[..., Any], samples: Sequence[Any]
) -> tuple[Traced, list[int], list[int | None], Any]:
    """A call's graph, the nodes of the samples and of the outputs, and the outputs' shapes."""
    closed, shape = jax.make_jaxpr(call, return_shape=True)(samples)
    traced = Traced()
    sources = [traced.node() for _ in samples]
    return traced, sources, traced.read(closed.jaxpr, sources), shape


def _not_samples_first(
    call: Callable[..., Any], samples: Sequence[Any], traced: Traced, size: int, beside: set[tuple[str, int]]
) -> dict[str, str]:
    """The layers whose first axis is as long as there are samples, and another: time, or what jax.vmap left.

    With twice as many samples the samples' own axis is twice as long. That is tried where another axis could be it.
    """
    likely = {name: axes for name, axes in traced.others(size).items() if any(n % size == 0 for n in axes)}
    if not likely:
        return {}
    twice = [jax.ShapeDtypeStruct((2 * size, *x.shape[1:]), x.dtype) for x in samples]
    try:
        doubled = _read(partial(call, times=2), twice)[0]
    except Exception:  # the model's own: it may be written for one number of samples
        return {name: NOT_TOLD for name, axes in likely.items() if size in axes}
    beside |= doubled.beside(2 * size)
    then = doubled.others(2 * size)
    return {name: NOT_FIRST for name in likely if name not in then}


class _Hole:
    """Stands where an array of samples was."""

    def __init__(self, at: int) -> None:
        self.at = at
