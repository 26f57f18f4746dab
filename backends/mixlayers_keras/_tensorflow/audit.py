"""Find a model's true mixing points in its graph: the model is traced, and not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import keras
import tensorflow as tf

from mixlayers._core.audit.found import Found, found
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


def look(model: keras.Model, x: Any) -> Found:
    """Trace a call of a model in training mode, and judge its layers.

    Raises:
        ValueError: If the output does not depend on the samples.
    """
    layers = layers_of(model)
    masks = handed_on([model, *layers.values()])
    size = batch_size(TENSORFLOW, x, 0)
    given: list[Any] = []
    held: dict[str, Any] = {}

    def run(inputs: Any) -> Any:
        marks = _Marks(tf.compat.v1.get_default_graph())
        held["marks"] = marks
        given.extend(leaf for leaf in leaves(inputs) if TENSORFLOW.is_tensor(leaf) and leaf.ndim)
        marked = {layer: partial(marks.mark, name) for name, layer in layers.items()}
        with _not_recomputed((model, *layers.values())), acting(marked, masks):
            held["output"] = model(inputs, **training(model))
        return held["output"]

    traced = tf.function(run, autograph=False).get_concrete_function(x)
    marks, output = held["marks"], held["output"]
    heads = output_tensors(TENSORFLOW, output)
    others = beside_output(TENSORFLOW, output)
    read = read_graph(heads, _below, lambda node: node.ref(), others.values())
    samples = {
        read.number[leaf.ref()]: leaf for leaf in given if leaf.shape[0] == size and leaf.ref() in read.number
    }
    known = {name: described(layers[name]) for name in layers if name in marks.calls or name in marks.inside}
    beside = {name: read.number[node.ref()] for name, node in others.items()}
    told = found(TENSORFLOW, known, marks.calls, marks.inside, read, samples, size, beside)
    del traced  # until here it keeps the graph
    return told


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
