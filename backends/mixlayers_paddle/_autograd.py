"""PaddlePaddle's graph: which pass made a tensor, and whose layers run again.

The private names of Paddle that mixing leans on are all here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from ctypes import py_object, pythonapi
from functools import cache
from importlib import import_module
from types import CodeType, FrameType
from typing import Any
from weakref import WeakValueDictionary, ref

import paddle
from paddle import Tensor, nn

from mixlayers._core.errors import MixingError, refuse
from mixlayers._core.framework.tree import leaves
from mixlayers._core.model.autograd import Arriving, Autograd, Backward, Segment, search

KEY = "mixlayers"
"""Where a tensor without gradients or a segment keeps what mixers leave with it."""

_RECOMPUTE = import_module(
    "paddle.distributed.fleet.recompute.recompute"
)  # its package hides it by a function


def _code(f: Any) -> CodeType | None:
    return getattr(inspect.unwrap(f), "__code__", None) if f is not None else None


_GRAD = _code(paddle.grad)
_ENGINES = frozenset(_code(f) for f in (Tensor.backward, paddle.autograd.backward, paddle.grad)) - {None}
"""What a backward pass runs in."""

_SEGMENT = _code(getattr(_RECOMPUTE, "_recompute_without_reentrant", None))
_UNPACK = next(
    (c for c in getattr(_SEGMENT, "co_consts", ()) if getattr(c, "co_name", None) == "unpack"), None
)
_FUNCTION = getattr(_RECOMPUTE, "RecomputeFunction", None)
_FORWARD = _code(getattr(_FUNCTION, "forward", None))
LACKING = [
    f"{function}'s variable {name}"
    for function, code, name in (
        ("grad", _GRAD, "inputs"),
        ("distributed.fleet.recompute.recompute.RecomputeFunction.forward", _FORWARD, "run_function"),
        ("distributed.fleet.recompute.recompute._recompute_without_reentrant", _SEGMENT, "storage"),
        ("distributed.fleet.recompute.recompute._recompute_without_reentrant.unpack", _UNPACK, "storage"),
    )
    if code is None or name not in (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
]
"""What this version of Paddle lacks; a test names it."""

_TOKENS: WeakValueDictionary[int, Token] = WeakValueDictionary()
"""What carries a pass, by the address of the graph's node that it is a hook of."""

_later: list[tuple[Any, Any]] = []
"""Weakly, what PyLayers are about to return, whose nodes are made afterwards."""


class Token:
    """A hook on a node of the graph: it lives as long, and carries the passes."""

    def __init__(self) -> None:
        self.passes: list[Any] = []

    def __call__(self, gradient: Tensor) -> None:
        pass


class PaddleAutograd(Autograd):
    """PaddlePaddle's graph of gradients."""

    def grad_enabled(self) -> bool:
        return paddle.is_grad_enabled()

    def wants_gradient(self, x: Tensor) -> bool:
        return not x.stop_gradient

    def parameters(self, model: nn.Layer) -> list[Any]:
        return [parameter for parameter in model.parameters() if not parameter.stop_gradient]

    def watch(self, x: Tensor, mixed: Arriving) -> None:
        x.register_hook(Arrival(mixed))

    def watch_node(self, node: Any, mixed: Arriving) -> None:
        """A PyLayer has no hooks: what it returned is watched as soon as mixlayers sees it again; see `_resolve`."""

    def resolve(self) -> None:
        """Nothing of mixlayers may be called any more until a backward pass."""
        _resolve()

    def backward(self, parameters: Sequence[Any]) -> Backward:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code is _GRAD:
                inputs = frame.f_locals["inputs"]
                asked = {id(x) for x in (inputs if isinstance(inputs, list | tuple) else [inputs])}
                return Backward.PARAMETERS if asked & set(map(id, parameters)) else Backward.OTHERS
            frame = frame.f_back
        return Backward.TRAINING

    def segments(self, *, gradients: bool) -> Sequence[Segment]:
        if LACKING:
            raise MixingError(
                f"Paddle {paddle.__version__} lacks {', '.join(LACKING)}, by which mixlayers follows recomputation: "
                "install another version of one of the two."
            )
        found: dict[int, Segment] = {}
        for segment in _segments_on_stack():
            key = id(segment.notebook)
            known = found.get(key)
            found[key] = segment if known is None or segment.again else known
        return list(found.values())

    def after_backward(self, node: Any, check: Callable[..., None]) -> None:
        """A PyLayer tells nobody that its backward is over: it must be made to run a function again."""
        if not hasattr(node, "run_function"):
            refuse(
                "the planned layer was mixed inside a PyLayer that is not seen to run it again in backward, so that "
                "its gradients might be those of an unmixed step",
                "mix outside of it: audit(model, example) lists other layers",
            )

    def tag(
        self, tensors: Iterable[Tensor], carried: Any, nodes: Sequence[Any], inputs: Iterable[Tensor]
    ) -> bool:
        given = {id(x) for x in inputs}
        own = [
            x for x in tensors if id(x) not in given and isinstance(x, Tensor)
        ]  # a static program has others
        for x in own:
            if (node := _node_of(x)) is not None:
                _carry(x, node, carried)
            elif x.stop_gradient:
                setattr(x, KEY, carried)
                if nodes:
                    _later.append((ref(x), carried))
        carried.untagged |= bool(nodes)
        return bool(own)

    def tagged(self, tensors: Iterable[Tensor]) -> list[Any]:
        _resolve()
        found: list[Any] = []
        heads = []
        for x in tensors:
            if (node := _node_of(x)) is not None:
                heads.append(node)
            elif isinstance(x, Tensor) and x.stop_gradient and (carried := getattr(x, KEY, None)) is not None:
                found.append(carried)
        return found + search(heads, _look)[0]

    def derives_from(self, tensors: Iterable[Tensor], parameters: Sequence[Any]) -> bool:
        """A PyLayer's node tells nothing of the parameters inside."""
        wanted = {node.node_ptr() for parameter in parameters if (node := _grad_fn(parameter)) is not None}
        heads = [node for x in tensors if (node := _node_of(x)) is not None]
        untold = (node for node in search(heads, _look)[1] if node.node_ptr() not in _TOKENS)
        return any(node.node_ptr() in wanted or "PyLayer" in node.name() for node in untold)


AUTOGRAD = PaddleAutograd()


class Arrival:
    """On the model's output: its gradient arrives."""

    def __init__(self, mixed: Arriving) -> None:
        self.mixed = mixed

    def __call__(self, gradient: Tensor) -> None:
        self.mixed.gradient_arrives(AUTOGRAD)


def _node_of(x: Any) -> Any:
    """The node that made a tensor; None for one that no gradient passes through."""
    return _grad_fn(x) if isinstance(x, Tensor) and not x.stop_gradient and not x.is_leaf else None


def _grad_fn(x: Tensor) -> Any:
    """`x.grad_fn`, without the reference that it leaves behind, which would keep every graph for good."""
    node = x.grad_fn
    if node is not None:  # of a parameter that nothing was computed with
        for _ in range(_leaked()):
            pythonapi.Py_DecRef(py_object(node))
    return node


@cache
def _leaked() -> int:
    """The number of references that `Tensor.grad_fn` leaks: one in Paddle 3.3.1."""
    x = paddle.ones([1])
    x.stop_gradient = False
    y = x * 2.0
    return sys.getrefcount(y.grad_fn) - 1


def _carry(x: Tensor, node: Any, carried: Any) -> None:
    token = _TOKENS.get(node.node_ptr())
    if token is None:
        token = Token()
        x.register_hook(token)
        _TOKENS[node.node_ptr()] = token
    if all(known is not carried for known in token.passes):
        token.passes.append(carried)


def _resolve() -> None:
    """Let what PyLayers have returned since carry its pass, and be watched."""
    waiting = []
    for kept, carried in _later:
        x = kept()
        if x is None:
            continue
        node = _node_of(x)
        if node is None:
            waiting.append((kept, carried))
            continue
        _carry(x, node, carried)
        AUTOGRAD.watch(x, carried)
    _later[:] = waiting


def _look(node: Any) -> tuple[Any, Any]:
    token = _TOKENS.get(node.node_ptr())
    return None if token is None else token.passes, [(each, 0) for each in node.next_functions]


def _segments_on_stack() -> Iterator[Segment]:
    """The segments of the calls around this one, innermost first; what a backward pass runs is inside of none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in _ENGINES:
        code = frame.f_code
        if code.co_varnames[:1] == ("ctx",):
            node = frame.f_locals.get("ctx")
            if isinstance(node, paddle.autograd.PyLayerContext):
                again = code.co_name == "backward"
                inputs = [x for x in leaves(frame.f_locals.get("args", ())) if isinstance(x, Tensor)]
                wanted = not inputs or any(not x.stop_gradient for x in inputs)
                trained = not again and wanted and not paddle.is_grad_enabled()
                direct = frame.f_locals.get("run_function")
                yield Segment(_notebook(node), again, id(frame), node if trained else None, direct)
        elif code is _SEGMENT or code is _UNPACK:
            keeper = frame.f_locals.get("storage")
            if keeper is not None:  # not yet made while the arguments are prepared
                yield Segment(_notebook(keeper), code is _UNPACK, id(frame))
        frame = frame.f_back


def _notebook(keeper: Any) -> Any:
    return vars(keeper).setdefault(KEY, {})
