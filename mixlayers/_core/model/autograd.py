"""The interface of a framework's gradient graph: whose tensor is this, and what is running now?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol


class Backward(Enum):
    """The purpose of the running backward pass."""

    TRAINING = "training"  # gradients are left in the parameters
    PARAMETERS = "parameters"  # gradients of the parameters are returned: a loop of one's own, or a penalty
    OTHERS = "others"  # gradients of something else are returned: a penalty, saliency, an attack


class Arriving(Protocol):
    """Who wants to know that a gradient arrives: a pass, for one, which tensors carry as well."""

    def gradient_arrives(self, autograd: Autograd) -> None:
        """It does."""


class Segment(NamedTuple):
    """A part of a forward that is not kept, but runs again in backward (activation checkpointing).

    Attributes:
        notebook: What the segment keeps for mixers, see `recompute`: the same in its forward and whenever it runs
            again.
        again: Whether it runs again.
        run: The number of this run, where the framework counts them.
        node: The node of the graph whose forward this is, where it runs without gradients; else None.
        direct: What the segment itself calls, where that is known.
        whole: Whether segments around this one would be known too.
    """

    notebook: MutableMapping[Any, Any]
    again: bool
    run: Any = None
    node: Any = None
    direct: Any = None
    whole: bool = True


class Autograd(ABC):
    """One framework's graph of gradients. Stateless, so that what refers to it can be copied and pickled.

    Attributes:
        between: Modules, by the start of their names, that call a hook from within the call that it is a hook of.
    """

    between: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def grad_enabled(self) -> bool:
        """Whether gradients are recorded, here or when this call runs again."""

    @abstractmethod
    def wants_gradient(self, x: Any) -> bool:
        """Whether a backward pass brings a gradient to a tensor."""

    @abstractmethod
    def watch(self, x: Any, mixed: Arriving) -> None:
        """Have `mixed.gradient_arrives` called when the gradient of x does."""

    @abstractmethod
    def parameters(self, model: Any) -> list[Any]:
        """A model's parameters."""

    @abstractmethod
    def watch_node(self, node: Any, mixed: Arriving) -> None:
        """`watch` for the gradient of what a node, whose forward runs now without gradients, will return."""

    @abstractmethod
    def backward(self, parameters: Sequence[Any]) -> Backward:
        """The running backward pass's purpose, seen from a model with these parameters."""

    @abstractmethod
    def segments(self, *, gradients: bool) -> Sequence[Segment]:
        """The recomputed segments around this call, innermost first, up to the backward pass that it is inside.

        Args:
            gradients: Whether they were recorded where the model was called; if they still are, no segment
                lies between.
        """

    @abstractmethod
    def after_backward(self, node: Any, check: Callable[..., None]) -> None:
        """Have `check` called when a node's backward is over."""

    @abstractmethod
    def tag(self, tensors: Iterable[Any], carried: Any, nodes: Sequence[Any], inputs: Iterable[Any]) -> bool:
        """Have tensors that a forward made carry their pass.

        Args:
            tensors: What a layer or the model returned.
            carried: The pass.
            nodes: Nodes of the graph around this call, which have the tensors' place in it afterwards.
            inputs: What the model was called with: the caller's, and not to be written on.

        Returns:
            Whether anything carries it.
        """

    @abstractmethod
    def tagged(self, tensors: Iterable[Any]) -> list[Any]:
        """The passes that tensors come from."""

    @abstractmethod
    def derives_from(self, tensors: Iterable[Any], parameters: Sequence[Any]) -> bool:
        """Whether tensors may have been computed with a model's parameters, other than by a pass that they carry."""


def search(
    heads: Iterable[Any],
    look: Callable[[Any], tuple[Sequence[Any] | None, Iterable[tuple[Any, Any]]]],
    leaf: type | None = None,
) -> tuple[list[Any], set[Any], set[Any]]:
    """The passes that a graph's nodes carry, from its heads on and not beyond one that carries any.

    Args:
        heads: Where to begin.
        look: Takes a node; returns the passes that it carries, and its edges: (the node before it or None, anything).
        leaf: Nodes of this type carry nothing, and nothing is before them: they are not looked at.

    Returns:
        The passes, the nodes that were met, and the leaves.
    """
    todo = list(heads)
    met, leaves, found = set(todo), set[Any](), list[Any]()
    while todo:  # a large model has hundreds of nodes, so nothing is called here but look
        passes, edges = look(todo.pop())
        if passes:
            found += passes
            continue
        for node, _ in edges:
            if type(node) is leaf:
                leaves.add(node)
            elif node not in met and node is not None:
                met.add(node)
                todo.append(node)
    return found, met, leaves
