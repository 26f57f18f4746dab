"""Chainer's graph: which pass made a variable, and whose links run again.

The private names of Chainer that mixing leans on are all here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import chainer
from chainer import FunctionHook, Link, Variable, _backprop
from chainer.functions.util.forget import Forget

from mixlayers._core.model.autograd import Arriving, Autograd, Backward, Segment, search

KEY = "_mixlayers"
"""Where a node keeps what mixers leave with it."""

_FORWARD, _AGAIN = Forget.forward.__code__, Forget.backward.__code__
_GRAD = chainer.grad.__code__
_ENGINES = frozenset({_GRAD, _backprop._backprop_to_all.__code__})
"""What a backward pass runs in."""


class ChainerAutograd(Autograd):
    """Chainer's graph of variable nodes and function nodes."""

    def grad_enabled(self) -> bool:
        return bool(chainer.config.enable_backprop or chainer.config._will_recompute)

    def wants_gradient(self, x: Any) -> bool:
        return isinstance(x, Variable) and x.requires_grad and x.creator_node is not None

    def parameters(self, model: Link) -> list[Any]:
        return list(model.params())

    def watch(self, x: Variable, mixed: Arriving) -> None:
        _add(x.creator_node, Arrival(mixed))

    def watch_node(self, node: Any, mixed: Arriving) -> None:
        _add(node, Arrival(mixed))

    def backward(self, parameters: Sequence[Any]) -> Backward:
        for frame in _frames():
            if frame.f_code is _GRAD:
                asked = set(map(id, frame.f_locals["inputs"]))
                return Backward.PARAMETERS if asked & set(map(id, parameters)) else Backward.OTHERS
        return Backward.TRAINING

    def segments(self, *, gradients: bool) -> Sequence[Segment]:
        if not (chainer.config._will_recompute or chainer.config.in_recomputing):
            return ()
        found = []
        for frame in _frames():
            if frame.f_code in _ENGINES:
                break  # what a backward pass runs is inside of no segment
            if frame.f_code is _FORWARD or frame.f_code is _AGAIN:
                node, again = frame.f_locals["self"], frame.f_code is _AGAIN
                notebook = vars(node).setdefault(KEY + "_notebook", {})
                found.append(Segment(notebook, again, id(frame), None if again else node, node.func))
        return found

    def after_backward(self, node: Any, check: Callable[..., None]) -> None:
        _add(node, Over(check))

    def tag(self, tensors: Iterable[Any], carried: Any, nodes: Sequence[Any], inputs: Iterable[Any]) -> bool:
        given = {id(x) for x in inputs}
        own = [x for x in tensors if id(x) not in given and isinstance(x, Variable)]
        for node in {
            *nodes,
            *(x.node for x in own),
            *(x.creator_node for x in own if x.creator_node is not None),
        }:
            passes = vars(node).setdefault(KEY, [])
            if all(known is not carried for known in passes):
                passes.append(carried)
        return bool(own or nodes)

    def tagged(self, tensors: Iterable[Any]) -> list[Any]:
        return search([x.node for x in tensors if isinstance(x, Variable)], _look)[0]

    def derives_from(self, tensors: Iterable[Any], parameters: Sequence[Any]) -> bool:
        met = search([x.node for x in tensors if isinstance(x, Variable)], _look)[1]
        return any(parameter.node in met for parameter in parameters)


AUTOGRAD = ChainerAutograd()


class Arrival(FunctionHook):
    """On what made the model's output: its gradient arrives."""

    def __init__(self, mixed: Arriving) -> None:
        self.mixed = mixed

    def backward_preprocess(self, function: Any, in_data: Any, out_grad: Any) -> None:
        self.mixed.gradient_arrives(AUTOGRAD)


class Over(FunctionHook):
    """On a segment: its backward is over."""

    def __init__(self, check: Callable[..., None]) -> None:
        self.check = check

    def backward_postprocess(self, function: Any, in_data: Any, out_grad: Any) -> None:
        self.check()


def _add(node: Any, hook: FunctionHook) -> None:
    node.local_function_hooks[f"mixlayers {id(hook)}"] = hook


def _look(node: Any) -> tuple[Any, Any]:
    """Nodes are of both kinds: variables' and functions'."""
    before = node.inputs or () if hasattr(node, "inputs") else (node.creator_node,)
    return vars(node).get(KEY), [(each, 0) for each in before]


def _frames() -> Iterator[FrameType]:
    """The calls around this one, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
