"""What mixing asks of Keras' backend, be it JAX, PyTorch or TensorFlow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Final, NamedTuple

import keras

from mixlayers import Method, MixedTarget, MixPlan
from mixlayers._core.audit.report import Audit
from mixlayers._core.framework.framework import Framework
from mixlayers._core.model.planner import Planner


class Seen(NamedTuple):
    """What is known of a model's layers.

    Attributes:
        report: The audit.
        whole_input: Whether all that holds samples is mixed at the input.
        shapes: What each place mixes, by name: the first feature's shape, its batch axis first.
    """

    report: Audit
    whole_input: bool
    shapes: Mapping[str, tuple[int, ...]]


class Planned(NamedTuple):
    """A batch with the plan of its step, as the training function takes it.

    Attributes:
        data: What Keras' trainers take: (x, y, sample_weight), or less.
        plan: The step's, as the backend has it.
    """

    data: Any
    plan: Any


class Engine(ABC):
    """One of Keras' backends.

    Attributes:
        framework: Whose arrays these are.
        cross_entropy, binary_cross_entropy: Its losses, with the classes as the second axis.
        knows_shares: Whether a plan knows the partner's share in the label before the model has run.
    """

    framework: ClassVar[Framework]
    cross_entropy: ClassVar[Callable[..., Any]]
    binary_cross_entropy: ClassVar[Callable[..., Any]]
    knows_shares: ClassVar[bool]

    def check_method(self, method: Method) -> None:  # noqa: B027  # most carry out all
        """Raise ValueError if its plans are not carried out here."""

    def check_compiled(self, model: keras.Model) -> None:  # noqa: B027  # one of them has something to refuse
        """Raise ValueError if the model is compiled in a way that would not mix."""

    @abstractmethod
    def look(
        self, model: keras.Model, x: Any, asked: str | Sequence[str], method: Method, state: Any = None
    ) -> Seen:
        """Judge a model's layers by what it takes.

        Args:
            model, x: It is run, or traced, in training mode, and left as it was.
            asked: The rule that is to choose, "auto" or "stages"; or the layers to be looked at more closely.
            method: What is to be done there.
            state: The variables' values, where a trainer holds them.
        """

    @abstractmethod
    def audit(self, model: keras.Model, x: Any) -> Audit:
        """The report on all layers."""

    @abstractmethod
    def plan(
        self, core: MixPlan, shapes: Mapping[str, tuple[int, ...]], channel_dim: int, planner: Planner
    ) -> Any:
        """A plan as this backend carries it out, with `mixed(place, x, keep)`, `mixes` and `s`.

        Args:
            core: What was drawn.
            shapes: As of `Seen`.
            channel_dim: 1 or -1, where masks find channels.
            planner: Who drew it.
        """

    @abstractmethod
    def places(self, plan: Any) -> Sequence[str]:
        """Where it acts."""

    @abstractmethod
    def partners(self, plan: Any, place: str) -> Any:
        """The partners of a place, with `of(y)`."""

    @abstractmethod
    def target(self, y: Any, plan: Any) -> MixedTarget:
        """The labels, mixed as the features were."""

    @abstractmethod
    def planning(self, function: Callable[..., Any], planned: Callable[..., Planned]) -> Callable[..., Any]:
        """A trainer's training function, each of whose batches gets a plan.

        Args:
            function: Takes data as this backend's trainer has it.
            planned: Of one batch, and the variables' values where the trainer holds them.
        """

    def in_backward(self) -> bool:
        """Whether this thread is in a backward pass, where layers run again that a step ran."""
        return False

    def recomputes_unseen(self) -> bool:
        """Whether layers may run again after the loss without `in_backward` telling."""
        return False

    def tensors(self, data: Any) -> Any:
        """Arrays in containers as the model will see them."""
        return data

    def inside(self, data: Any) -> Any:
        """The same as the core calculates with them."""
        return self.tensors(data)

    def outside(self, mixed: Any, target: MixedTarget) -> tuple[Any, MixedTarget]:
        """What the core made of them, for the user."""
        return mixed, target


ENGINE: Final[Engine] = import_module(f"mixlayers_keras._on_{keras.config.backend()}").ENGINE
