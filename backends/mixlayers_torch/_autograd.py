"""PyTorch's graph: which pass made a tensor, and whose layers run again.

The private names of PyTorch that mixing leans on are all here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.autograd import graph
from torch.autograd.function import FunctionCtx
from torch.utils.checkpoint import CheckpointFunction

from mixlayers._core.errors import MixingError
from mixlayers._core.model.autograd import Arriving, Autograd, Backward, Segment, search

KEY = "mixlayers"
"""Where a node's metadata, a storage or a segment keeps what mixers leave with it."""


def _found(path: str) -> Any:
    """One of PyTorch's own names, or None where a version lacks it."""
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


_C: Any = torch._C
PRIVATE = {
    path: _found(path)
    for path in (
        "_C._current_graph_task_id",
        "_C._will_engine_execute_node",
        "_C._autograd._top_saved_tensors_default_hooks",
        "autograd._is_checkpoint_valid",
        "autograd.function.BackwardCFunction.apply",
        "autograd.graph._engine_run_backward",
        "utils.checkpoint._CheckpointFrame",
        "utils.checkpoint._checkpoint_hook",
        "utils.checkpoint._checkpoint_without_reentrant_generator",
    )
}
"""What is not public; a test names what a version of PyTorch drops."""


def in_backward() -> bool:
    """Whether this thread is in a backward pass, which on a GPU has threads of its own."""
    running: bool = _C._current_graph_task_id() != -1
    return running


def _code(f: Any) -> CodeType | None:
    return getattr(inspect.unwrap(f), "__code__", None) if f is not None else None


def _nested(f: Any, name: str) -> CodeType | None:
    """The code of a function that another one defines."""
    constants = getattr(_code(f), "co_consts", ())
    return next((code for code in constants if getattr(code, "co_name", None) == name), None)


_CHECKPOINT = _code(_found("utils.checkpoint._checkpoint_impl") or torch.utils.checkpoint.checkpoint)
_UNPACK = _nested(getattr(PRIVATE["utils.checkpoint._checkpoint_hook"], "__init__", None), "unpack_hook")
_BACKWARDS = frozenset(
    _code(getattr(torch.autograd.function.BackwardCFunction, name, None)) for name in ("apply", "apply_boxed")
) - {None}
_ENGINE = _code(PRIVATE["autograd.graph._engine_run_backward"])
_GENERATOR = _code(  # PyTorch 2.14 moved what both did into functions behind them
    _found("utils.checkpoint._checkpoint_without_reentrant_generator_impl")
    or PRIVATE["utils.checkpoint._checkpoint_without_reentrant_generator"]
)


def _names(code: CodeType | None) -> tuple[str, ...]:
    """The variables of a function."""
    return () if code is None else (*code.co_varnames, *code.co_cellvars, *code.co_freevars)


LACKING = [name for name, found in PRIVATE.items() if found is None] + [
    f"{function}'s variable {name}"
    for function, code, name in (
        ("utils.checkpoint.checkpoint", _CHECKPOINT, "gen"),
        ("utils.checkpoint._checkpoint_without_reentrant_generator", _GENERATOR, "new_frame"),
        ("utils.checkpoint._checkpoint_hook.__init__.unpack_hook", _UNPACK, "frame"),
        ("utils.checkpoint.CheckpointFunction.forward", _code(CheckpointFunction.forward), "run_function"),
    )
    if name not in _names(code)
]


class TorchAutograd(Autograd):
    """PyTorch's autograd graph."""

    between = ("torch._dynamo", "torch._compile")

    def grad_enabled(self) -> bool:
        return torch.is_grad_enabled()

    def wants_gradient(self, x: Tensor) -> bool:
        return x.requires_grad

    def parameters(self, model: nn.Module) -> list[Any]:
        return [parameter for parameter in model.parameters() if parameter.requires_grad]

    def watch(self, x: Tensor, mixed: Arriving) -> None:
        x.register_hook(Arrival(mixed))

    def watch_node(self, node: Any, mixed: Arriving) -> None:
        node.register_prehook(Arrival(mixed))

    def backward(self, parameters: Sequence[Any]) -> Backward:
        if not in_backward():
            return Backward.OTHERS  # saved tensors are looked at, outside of a backward pass
        if PRIVATE["autograd._is_checkpoint_valid"]():  # no inputs= was given
            return Backward.TRAINING
        # torch.func returns gradients, of what nobody can tell
        if torch._C._are_functorch_transforms_active():
            return Backward.PARAMETERS
        reached = {_reaches(parameter) for parameter in parameters}
        if True in reached:
            return Backward.TRAINING
        return Backward.PARAMETERS if None in reached else Backward.OTHERS

    def segments(self, *, gradients: bool) -> Sequence[Segment]:
        backward = _C._current_graph_task_id()
        top = _C._autograd._top_saved_tensors_default_hooks(False)
        if backward == -1 and top is None and (not gradients or torch.is_grad_enabled()):
            return ()
        if LACKING:
            raise MixingError(
                f"PyTorch {torch.__version__} lacks {', '.join(LACKING)}, by which mixlayers follows activation "
                "checkpointing: mix without checkpointing, or install another version of one of the two."
            )
        found: dict[int, Segment] = {}
        for segment in _segments_on_stack(backward):
            key = id(segment.notebook)
            known = found.get(key)
            found[key] = segment if known is None or segment.again else known
        innermost = None if top is None else _frame_of(top[0])
        if innermost is not None and id(_notebook(innermost)) not in found:
            # a checkpoint that is no call: FSDP's and torch.distributed's, by hooks on a module
            hooked = Segment(_notebook(innermost), again=False, whole=False)
            return [hooked, *found.values()]
        return list(found.values())

    def after_backward(self, node: Any, check: Callable[..., None]) -> None:
        node.register_hook(check)

    def tag(
        self, tensors: Iterable[Tensor], carried: Any, nodes: Sequence[Any], inputs: Iterable[Tensor]
    ) -> bool:
        given = list(inputs)
        theirs = {_storage(x) for x in given}
        found = bool(nodes)
        for node in nodes:
            _carry(node, carried)
        for x in tensors:
            if any(x is other for other in given):
                continue
            found, node = True, x.grad_fn
            if node is not None:
                _carry(node, carried)
            elif x.requires_grad:
                continue  # a parameter
            memory = _storage(x)
            if memory is not None and memory not in theirs:
                memory.mixlayers = carried
        return found

    def tagged(self, tensors: Iterable[Tensor]) -> list[Any]:
        kept: list[Any] = []
        heads = []
        for x in tensors:
            if x.grad_fn is not None:
                heads.append(x.grad_fn)
            else:
                kept += _kept(x)
        found, _, leaves = search(heads, _look, _Leaf) if heads else ([], (), ())
        if not (found or kept):  # perhaps a leaf is what a forward returned, detached
            for node in leaves:
                x = node.variable
                kept += [] if type(x) is nn.Parameter else _kept(x)
        return kept + found

    def derives_from(self, tensors: Iterable[Tensor], parameters: Sequence[Any]) -> bool:
        wanted = {id(parameter) for parameter in parameters}
        heads = [x.grad_fn for x in tensors if x.grad_fn is not None]
        return any(id(node.variable) in wanted for node in search(heads, _look, _Leaf)[2])


AUTOGRAD = TorchAutograd()


class Arrival:
    """On the model's output, or the node that returns it: its gradient arrives."""

    def __init__(self, mixed: Arriving) -> None:
        self.mixed = mixed

    def __call__(self, gradients: Any) -> None:
        _eagerly(self.mixed.gradient_arrives, AUTOGRAD)


@_disable_dynamo
def _eagerly(f: Any, *args: Any) -> Any:
    """Call a function that torch.compile is not to look into."""
    return f(*args)


_Leaf: Any = type(graph.get_gradient_edge(torch.ones((), requires_grad=True)).node)
"""What accumulates the gradient of a tensor that nothing in the graph made."""


def _look(node: Any) -> tuple[Any, Any]:
    return node.metadata.get(KEY), node.next_functions


def _carry(node: Any, carried: Any) -> None:
    passes = node.metadata.setdefault(KEY, [])
    if all(known is not carried for known in passes):
        passes.append(carried)


def _kept(x: Tensor) -> list[Any]:
    """The pass that a tensor's memory carries."""
    carried = getattr(_storage(x), KEY, None)
    return [] if carried is None else [carried]


def _storage(x: Tensor) -> Any:
    """The memory that a tensor and its views share; None where there is none (of functorch's, or of sparse ones)."""
    try:
        return x.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def _reaches(parameter: Tensor) -> bool | None:
    """Whether the running backward pass leaves a gradient in a parameter; None: it returns it instead."""
    node = graph.get_gradient_edge(parameter).node
    try:
        return bool(_C._will_engine_execute_node(node))
    except RuntimeError:  # "a leaf node was passed ... but we are currently running autograd.grad()"
        return None


def _segments_on_stack(backward: int) -> Iterator[Segment]:
    """The segments of the calls around this one, innermost first; what a backward pass runs is inside of none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _ENGINE:
        code = frame.f_code
        if code in _BACKWARDS:
            yield Segment(_notebook(frame.f_locals["self"]), again=True, run=backward)
        elif code is _UNPACK:
            yield Segment(_notebook(frame.f_locals["frame"]), again=True, run=backward)
        elif code is _CHECKPOINT:
            generator = getattr(frame.f_locals.get("gen"), "gi_frame", None)
            made = None if generator is None else generator.f_locals.get("new_frame")
            if made is not None:
                yield Segment(_notebook(made), again=False)
        elif code.co_varnames[:1] == ("ctx",):
            node = frame.f_locals.get("ctx")
            if isinstance(node, FunctionCtx) and code.co_name != "backward":
                trained = not torch.is_grad_enabled() and any(getattr(node, "needs_input_grad", ()))
                checkpointed = code is _code(CheckpointFunction.forward)
                direct = frame.f_locals.get("run_function") if checkpointed else None
                yield Segment(_notebook(node), again=False, node=node if trained else None, direct=direct)
        frame = frame.f_back


def _notebook(keeper: Any) -> Any:
    return vars(keeper).setdefault(KEY, {})


def _frame_of(pack: Any) -> Any:
    """The checkpoint whose hook on saved tensors this is, in its forward; None if it is another hook."""
    names = getattr(getattr(pack, "__code__", None), "co_freevars", ())
    if "frame" not in names:
        return None
    held = pack.__closure__[names.index("frame")].cell_contents
    return held if isinstance(held, torch.utils.checkpoint._CheckpointFrame) else None
