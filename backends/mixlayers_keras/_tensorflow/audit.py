"""Find a model's true mixing points in its graph: the model is traced, and not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import keras
import tensorflow as tf

from mixlayers._core.audit.found import NOT_FIRST, NOT_TOLD, Found, found
from mixlayers._core.audit.verdicts import Call, beside_output, output_tensors, read_graph
from mixlayers._core.batch.mix import batch_size
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers_keras._layers import acting, described, layers_of, training
from mixlayers_keras._masks import handed_on
from mixlayers_keras._tensorflow.framework import TENSORFLOW

_VALUELESS: Final = frozenset({"Shape", "ShapeN", "Size", "Rank"})
"""Operations that tell of a tensor what all samples have alike."""


@dataclass
class _Marks:
    """Gives each layer's output a node of its own, and takes down whose it is.

    Attributes:
        graph: That of the model, in which loops and branches have graphs of their own.
        calls: The layers' calls, in the order in which they finish.
        inside: What layers return that run in loops and branches.
    """

    graph: Any
    calls: dict[str, list[Call]] = field(default_factory=dict)
    inside: dict[str, Any] = field(default_factory=dict)

    def mark(self, name: str, output: Any) -> Any:
        """The output of a layer, marked."""
        if tf.compat.v1.get_default_graph() is not self.graph:
            first = next(filter(TENSORFLOW.is_tensor, leaves(output)), None)
            if first is not None:
                self.inside.setdefault(name, first)
            return output
        marked = tree_map(
            lambda x: tf.identity(x) if TENSORFLOW.is_tensor(x) and TENSORFLOW.is_float(x) else x, output
        )
        own = [x for x in leaves(marked) if TENSORFLOW.is_tensor(x)]
        nodes = [x.ref() for x in own if TENSORFLOW.is_float(x) and x.ndim]
        self.calls.setdefault(name, []).append(Call([(x, 0) for x in own], nodes))
        return marked

    def others(self, size: int) -> dict[str, list[int | None]]:
        """Of the layers whose first axis is as long as there are samples: the other axes."""
        found: dict[str, list[int | None]] = {}
        for name, calls in self.calls.items():
            for part, _ in (part for call in calls for part in call.parts):
                if part.shape[:1] == (size,):
                    found.setdefault(name, []).extend(part.shape[1:])
        return found


class _Traced(NamedTuple):
    """A call of a model in a graph, with the tensors that it was given; `graph` keeps them alive."""

    graph: Any
    marks: _Marks
    given: Sequence[Any]
    output: Any


def look(model: keras.Model, x: Any) -> Found:
    """Trace a call of a model in training mode, and judge its layers.

    Raises:
        ValueError: If the output does not depend on the samples.
    """
    layers = layers_of(model)
    size = batch_size(TENSORFLOW, x, 0)
    traced = _trace(model, layers, x)
    marks = traced.marks
    heads = output_tensors(TENSORFLOW, traced.output)
    others = beside_output(TENSORFLOW, traced.output)
    read = read_graph(heads, _below, lambda node: node.ref(), others.values())
    samples = {
        read.number[leaf.ref()]: leaf
        for leaf in traced.given
        if leaf.shape[0] == size and leaf.ref() in read.number
    }
    known = {name: described(layers[name]) for name in layers if name in marks.calls or name in marks.inside}
    beside = {name: read.number[node.ref()] for name, node in others.items()}
    otherwise = _not_samples_first(model, layers, x, marks, size)
    return found(TENSORFLOW, known, marks.calls, marks.inside, read, samples, size, beside, otherwise)


def _trace(model: keras.Model, layers: Mapping[str, Any], x: Any) -> _Traced:
    masks = handed_on([model, *layers.values()])
    held: list[Any] = []

    def run(inputs: Any) -> Any:
        marks = _Marks(tf.compat.v1.get_default_graph())
        given = [leaf for leaf in leaves(inputs) if TENSORFLOW.is_tensor(leaf) and leaf.ndim]
        marked = {layer: partial(marks.mark, name) for name, layer in layers.items()}
        with _not_recomputed((model, *layers.values())), acting(marked, masks):
            output = model(inputs, **training(model))
        held[:] = marks, given, output
        return output

    return _Traced(tf.function(run, autograph=False).get_concrete_function(x), *held)


def _not_samples_first(
    model: keras.Model, layers: Mapping[str, Any], x: Any, marks: _Marks, size: int
) -> dict[str, str]:
    """As on JAX: with twice as many samples the samples' own axis is twice as long, where another could be it."""
    axes = marks.others(size)
    likely = {name for name, own in axes.items() if any(n is None or n % size == 0 for n in own)}
    if not likely:
        return {}

    def twice(leaf: Any) -> Any:
        own = TENSORFLOW.is_tensor(leaf) and leaf.ndim and leaf.shape[0] == size
        return tf.concat([leaf, leaf], 0) if own else leaf

    try:
        then = _trace(model, layers, tree_map(twice, x)).marks.others(2 * size)
    except Exception:  # the model's own: it may be written for one number of samples
        return {name: NOT_TOLD for name in likely if size in axes[name]}
    return {name: NOT_FIRST for name in likely if name not in then}


@contextmanager
def _not_recomputed(layers: Iterable[Any]) -> Iterator[None]:
    """While layers are traced that are to be recomputed: graphs of TensorFlow's take none that is given `training=`."""
    modes = [(layer, layer._remat_mode) for layer in layers]
    for layer, _ in modes:
        object.__setattr__(layer, "_remat_mode", None)
    try:
        yield
    finally:
        for layer, mode in modes:
            object.__setattr__(layer, "_remat_mode", mode)


def _below(tensor: Any) -> Sequence[Any]:
    """What a tensor was made of."""
    made = tensor.op
    if made.type in _VALUELESS:
        return []
    if made.type == "IdentityN":  # around functions with gradients of their own: one in, one out
        return [made.inputs[tensor.value_index]]
    return list(made.inputs)
