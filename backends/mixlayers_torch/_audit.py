"""Find a model's true mixing points in its autograd graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

from mixlayers._core.audit.experiment import Experiment
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.stage import AUDITING, Few, ModelRaised, NotNow, Unaudited, arrays_of
from mixlayers._core.audit.trial import Trial
from mixlayers._core.audit.verdicts import (
    Call,
    Graph,
    beside_output,
    output_tensors,
    read_graph,
    report,
)
from mixlayers._core.batch.mix import can_mix
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.model.mixer import call_of
from mixlayers_torch._framework import TORCH
from mixlayers_torch._hooks import joined, original, parts_of
from mixlayers_torch._stage import TorchStage, unseen


def audit(model: nn.Module, example: Any, *, batch_dim: int = 0) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    A layer is one if two judges say so. One forward of four samples, in training mode and without chance, gives
    each layer's output a node of its own in the autograd graph: no path from the output to the input may go round
    it. Further forwards give every sample another's features there: each output must then be the other's own, which
    also sees what reaches the output without gradients (a padding mask, token ids, a detached tensor).

    Args:
        model: Any module; its state, mode and the global random states are left as they are.
        example: What the model takes: a tensor, a tuple of positional or a dict of keyword arguments. Of more than
            four samples those are taken that differ most in their whole numbers and bools.
        batch_dim: Axis that holds the batch, in the input and in the layers.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    args, kwargs = call_of(example)
    return put_on_trial(original(model), args, kwargs, batch_dim).report()


def put_on_trial(
    model: nn.Module | TorchStage,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    batch_dim: int,
    masked: Mapping[str, Mapping[str, int]] | None = None,
    agree: Callable[[TorchStage], Callable[[float], float]] = lambda _: float,
) -> Trial:
    """Run one call of the model on a few samples, read its graph, and be ready to swap samples.

    Args:
        model: The module, or the stage on which another library's model runs.
        args, kwargs: The call.
        batch_dim: Its batch axis.
        masked: The modules that take padding masks, which are no features; see `Experiment`.
        agree: From what was seen, the largest of a number over all processes.
    """
    try:
        stage = model if isinstance(model, TorchStage) else TorchStage(model)
    except NotNow as error:  # a training loop of torch.func may have no other forward, in which to ask again
        raise Unaudited(str(error)) from error
    few = Few.of(stage, args, kwargs, batch_dim)
    experiment = Experiment(stage, few, masked or {})
    traced: Callable[[Any], Any] = partial(_probe, few, experiment)
    try:
        stage.settle(few.args, few.kwargs)
    except Exception as error:
        agree(stage)(1.0)
        raise ModelRaised(error, few, TORCH) from error
    try:
        marks, probes, output = _run(stage, few, traced)
    except Exception:
        try:  # some set requires_grad on what they make of the input, which then must not want any
            marks, probes, output = _run(stage, few, lambda x: x)
        except Exception as error:
            agree(stage)(1.0)  # to processes where nothing raised, as if the outputs told nothing
            raise ModelRaised(error, few, TORCH) from error
    clean = arrays_of(stage, output)
    try:
        graph, unreadable = marks.read(output, probes), ""
    except ValueError as error:
        graph, unreadable = None, str(error)
    return Trial(graph, unreadable, experiment, clean, lambda: stage.chooses, agree(stage))


def _run(stage: TorchStage, few: Few, probe: Callable[[Any], Any]) -> tuple[_Marks, Any, Any]:
    """The forward whose graph is read: the marks in it, what the model was given, what it returned."""
    probes = tree_map(probe, (few.args, few.kwargs))
    marks = _Marks(few, stage)
    handles = [module.register_forward_hook(marks.mark) for module in marks.names]
    try:
        with stage.quiet(probes, few.size), torch.enable_grad(), unseen():
            return marks, probes, stage.model(*probes[0], **probes[1])
    finally:
        for handle in handles:
            handle.remove()


class _Marks:
    """Gives each layer's output a node of its own, and reads the graph."""

    def __init__(self, few: Few, stage: TorchStage) -> None:
        self.few, self.stage = few, stage
        self.names = {module: name for name, module in stage.modules.items() if name}
        self.seen: dict[str, list[Call]] = {}
        self.begun: list[Tensor] = []

    def mark(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not AUDITING.get():  # another thread's call
            return None
        looks_up = _looks_up_alone(inputs)
        parts, nodes = [], []
        for part, axis in parts_of(module, output, self.few.batch_dim):
            marked = tree_map(partial(self._own_node, axis, looks_up), part)
            parts.append((marked, axis))
            # the nodes are taken now: `marked += residual` would put another in their place
            nodes += [x.grad_fn for x in leaves(marked) if self._traced(x, axis)]
        self.seen.setdefault(self.names[module], []).append(Call(parts, nodes))
        return joined(module, [part for part, _ in parts])

    def read(self, output: Any, inputs: Any) -> Audit:
        few = self.few
        heads = [x.grad_fn for x in output_tensors(TORCH, output) if x.grad_fn is not None]
        others = beside_output(TORCH, output)
        made = {name: x.grad_fn for name, x in others.items() if x.grad_fn is not None}
        graph = read_graph(heads, _below, lambda node: node, made.values())
        beside = {name: graph.number[node] for name, node in made.items()}
        begun = {at for node, at in graph.number.items() if _is_one_of(node, self.begun)}
        given = [x for x in leaves(inputs) if isinstance(x, Tensor)]
        if not any(x.requires_grad for x in given):
            given += self._wanting(graph)
        inputs_at = {at for node, at in graph.number.items() if _is_one_of(node, given)}
        lookups = {at for node, at in graph.number.items() if _looks_up(node, few.size, few.batch_dim)}
        layers = {name: self.stage.described(module) for module, name in self.names.items()}
        return report(
            TORCH,
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

    def _wanting(self, graph: Graph) -> list[Tensor]:
        """Tensors that the model itself made of its input, for gradients to begin at."""
        own = {id(p) for module in self.names for p in module.parameters()}
        few = self.few
        variables = [getattr(node, "variable", None) for node in graph.number]
        return [
            x
            for x in variables
            if x is not None and id(x) not in own and can_mix(TORCH, x, few.size, few.batch_dim)
        ]

    def _traced(self, x: Any, axis: int) -> bool:
        return can_mix(TORCH, x, self.few.size, axis) and x.requires_grad

    def _own_node(self, axis: int, looks_up: bool, x: Any) -> Any:
        if self._traced(x, axis):
            return x.clone()
        if (
            looks_up
            and torch.is_grad_enabled()
            and can_mix(TORCH, x, self.few.size, axis)
            and _differs(x, axis)
        ):
            x = (
                x.detach().clone().requires_grad_()
            )  # a frozen embedding's: where this sample's gradients begin
            self.begun.append(x)
            return x.clone()
        return x


def _looks_up_alone(inputs: Any) -> bool:
    """Whether a layer takes whole numbers and no features."""
    taken = [x for x in leaves(inputs) if isinstance(x, Tensor)]
    return bool(taken) and not any(x.is_floating_point() for x in taken)


def _differs(x: Tensor, axis: int) -> bool:
    return not is_fake(x) and bool((x != x.narrow(axis, 0, 1)).any())


def _below(node: Any) -> list[Any]:
    return [after for after, _ in node.next_functions if after is not None]


def _probe(few: Few, experiment: Experiment, leaf: Any) -> Any:
    """A tensor's samples as a leaf of the autograd graph."""
    if not isinstance(leaf, Tensor) or leaf.ndim <= few.batch_dim or leaf.shape[few.batch_dim] != few.size:
        return leaf
    copy = leaf.detach().clone()
    return copy.requires_grad_() if TORCH.is_float(copy) and not experiment.is_mask(leaf) else copy


def _is_one_of(node: Any, tensors: Iterable[Any]) -> bool:
    """Whether the node is where one of these begins."""
    variable = getattr(node, "variable", None)
    return variable is not None and any(variable is leaf for leaf in tensors)


def _looks_up(node: Any, size: int, batch_dim: int) -> bool:
    """Whether the node is a look-up by batch-wise indices."""
    for name in ("_saved_indices", "_saved_index"):
        saved = getattr(node, name, None)
        for index in saved if isinstance(saved, tuple | list) else (saved,):
            batched = isinstance(index, Tensor) and index.ndim > batch_dim and index.shape[batch_dim] == size
            if batched and (size == 1 or index.stride(batch_dim)):
                return True
    return False
