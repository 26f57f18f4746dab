"""Find a model's true mixing points in its autograd graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import paddle
from paddle import Tensor, nn

from mixlayers._core.audit.experiment import Experiment
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.stage import AUDITING, Few, ModelRaised, NotNow, arrays_of, is_batched
from mixlayers._core.audit.trial import Trial
from mixlayers._core.audit.verdicts import Call, Layer, beside_output, output_tensors, read_graph, report
from mixlayers._core.batch.mix import can_mix
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.model.mixer import call_of
from mixlayers_paddle._framework import PADDLE
from mixlayers_paddle._hooks import joined, parts_of
from mixlayers_paddle._stage import PaddleStage

_LOOK_UP = "EmbeddingGradNode"


def audit(model: nn.Layer, example: Any, *, batch_dim: int = 0) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    A layer is one if two judges say so. One forward of four samples, in training mode and without chance, gives
    each layer's output a node of its own in the autograd graph: no path from the output to the input may go round
    it. Further forwards give every sample another's features there: each output must then be the other's own, which
    also sees what reaches the output without gradients (a padding mask, token ids, a detached tensor).

    Args:
        model: Any layer; its state, mode and the global random states are left as they are.
        example: What the model takes: a tensor, a tuple of positional or a dict of keyword arguments. Of more than
            four samples those are taken that differ most in their whole numbers and bools.
        batch_dim: Axis that holds the batch, in the input and in the layers.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    return put_on_trial(model, *call_of(example), batch_dim).report()


def put_on_trial(
    model: nn.Layer,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    batch_dim: int,
    masked: Mapping[str, Mapping[str, int]] | None = None,
) -> Trial:
    """Run one call of the model on a few samples, read its graph, and be ready to swap samples.

    Args:
        model: The layer.
        args, kwargs: The call.
        batch_dim: Its batch axis.
        masked: The layers that take padding masks, which are no features; see `Experiment`.
    """
    PADDLE.check_mixing()
    _check_unwatched()
    stage = PaddleStage(model)
    few = Few.of(stage, args, kwargs, batch_dim)
    experiment = Experiment(stage, few, masked or {})
    args, kwargs = tree_map(partial(_probe, few, experiment), (few.args, few.kwargs))
    marks = _Marks(few, model)
    handles = [layer.register_forward_post_hook(marks.mark) for layer in marks.names]
    try:
        with stage.quiet(few.size), paddle.enable_grad():
            output = model(*args, **kwargs)
    except Exception as error:
        raise ModelRaised(error, few, PADDLE) from error
    finally:
        for handle in handles:
            handle.remove()
    clean = arrays_of(stage, output)
    try:
        graph, unreadable = marks.read(output, (args, kwargs)), ""
    except ValueError as error:
        graph, unreadable = None, str(error)
    return Trial(graph, unreadable, experiment, clean, lambda: stage.chooses)


class _Marks:
    """Gives each layer's output a node of its own, and reads the graph."""

    def __init__(self, few: Few, model: nn.Layer) -> None:
        self.few = few
        self.names = {layer: name for name, layer in model.named_sublayers()}
        self.seen: dict[str, list[Call]] = {}
        self.made: dict[int, Any] = {}  # the nodes that layers of their own look up with, and their indices
        self.begun: list[Tensor] = []

    def mark(self, layer: nn.Layer, inputs: Any, output: Any) -> Any:
        if not AUDITING.get():  # another thread's call
            return None
        few = self.few
        if not layer._sub_layers:
            _note_look_up(self.made, inputs, output, few.size, few.batch_dim)
        parts, alive = [], []
        looks_up = _looks_up_alone(inputs)
        for part, axis in parts_of(layer, output, few.batch_dim):
            marked = tree_map(partial(self._own_node, axis, looks_up), part)
            parts.append((marked, axis))
            # the nodes are taken now: `marked.add_(residual)` would put another in their place
            alive += [x.grad_fn for x in leaves(marked) if self._traced(x, axis)]
        call = Call([*parts, (alive, 0)], [node.node_ptr() for node in alive])
        self.seen.setdefault(self.names[layer], []).append(call)
        return joined(layer, [part for part, _ in parts])

    def read(self, output: Any, inputs: Any) -> Audit:
        few, made = self.few, self.made
        heads = [x.grad_fn for x in output_tensors(PADDLE, output) if x.grad_fn is not None]
        kinds: dict[Any, str] = {}

        def handle_of(node: Any) -> int:
            pointer: int = node.node_ptr()  # Python objects come and go, and their ids are given out again
            kinds[pointer] = node.name()
            return pointer

        others = beside_output(PADDLE, output)
        others_made = {name: x.grad_fn for name, x in others.items() if x.grad_fn is not None}
        graph = read_graph(heads, _below, handle_of, others_made.values())
        beside = {name: graph.number[node.node_ptr()] for name, node in others_made.items()}
        tensors = [x for x in leaves(inputs) if isinstance(x, Tensor) and not x.stop_gradient]
        pointers = {x.grad_fn.node_ptr() for x in tensors}
        inputs_at = {at for node, at in graph.number.items() if node in pointers}
        beginnings = {x.grad_fn.node_ptr() for x in self.begun}
        begun = {at for node, at in graph.number.items() if node in beginnings}
        varies = {node for node, index in made.items() if index is not None and _varies(index, few.batch_dim)}
        varies = varies or {node for node, index in made.items() if index is not None}
        lookups = {
            at
            for node, at in graph.number.items()
            if node in varies or (kinds[node] == _LOOK_UP and node not in made)
        }
        layers = {name: _layer(layer) for layer, name in self.names.items()}
        return report(
            PADDLE,
            layers,
            self.seen,
            graph,
            inputs_at,
            lookups,
            inputs,
            few.size,
            few.batch_dim,
            begun,
            beside,
        )

    def _traced(self, x: Any, axis: int) -> bool:
        return can_mix(PADDLE, x, self.few.size, axis) and not x.stop_gradient

    def _own_node(self, axis: int, looks_up: bool, x: Any) -> Any:
        if self._traced(x, axis):
            return x.clone()
        if (
            looks_up
            and can_mix(PADDLE, x, self.few.size, axis)
            and paddle.is_grad_enabled()
            and _varies(x, axis)
        ):
            x = x.detach().clone()  # a frozen embedding's: where this sample's gradients begin
            x.stop_gradient = False
            self.begun.append(x)
            return x.clone()
        return x


def _below(node: Any) -> list[Any]:
    return [after for after in node.next_functions if after is not None]


def _looks_up_alone(inputs: Any) -> bool:
    """Whether a layer takes whole numbers and no features."""
    taken = [x for x in leaves(inputs) if isinstance(x, Tensor)]
    return bool(taken) and not any(PADDLE.is_float(x) for x in taken)


def _check_unwatched() -> None:
    """Raise if what is saved for backward is being counted: the audit's own would be counted with it."""
    try:
        with paddle.autograd.saved_tensors_hooks(lambda x: x, lambda x: x):
            pass
    except ValueError as error:
        raise NotNow(
            "a model cannot be audited while paddle.autograd.saved_tensors_hooks are active, as in "
            "recompute(model, ..., use_reentrant=False): give an example, wrap(model, example=images)."
        ) from error


def _layer(layer: nn.Layer) -> Layer:
    weighted = any(p.ndim > 1 for p in layer.parameters())
    return Layer(type(layer).__name__, weighted, leaf=not layer._sub_layers)


def _probe(few: Few, experiment: Experiment, leaf: Any) -> Any:
    """A tensor's samples as a leaf of the autograd graph."""
    if not is_batched(PADDLE, leaf, few.size, few.batch_dim):
        return leaf
    copy = leaf.detach().clone()
    copy.stop_gradient = not PADDLE.is_float(copy) or experiment.is_mask(leaf)
    return copy


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
