"""The stage on which the audit runs a model: what it asks of a framework."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from mixlayers._core.audit.samples import FEW, differing
from mixlayers._core.audit.verdicts import output_tensors
from mixlayers._core.batch.mix import batch_size
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import leaves, tree_map

After = Callable[[Any], Any]
"""What happens to a layer's output."""

Before = Callable[[Sequence[Any], Mapping[str, Any]], tuple[Sequence[Any], Mapping[str, Any]] | None]
"""What happens to the arguments that a layer is called with; None: nothing."""

AUDITING: ContextVar[bool] = ContextVar("mixlayers_auditing", default=False)
"""Whether an audit runs a model in this thread or task: its hooks keep still."""

LABELS: Final = frozenset({"label", "labels", "target", "targets", "y"})
"""Arguments by these names are no features."""

Weigh = Callable[[tuple[int, ...]], npt.NDArray[np.float64]]
"""The weights of an output's entries, by its shape."""

_MOST_ARGUMENTS: Final = 64


class NotNow(ValueError):
    """A model cannot be audited where it is called."""


class Unaudited(ValueError):
    """The audit could not run the model."""


class ModelRaised(Unaudited):
    """The model raised in a forward of the audit's own.

    Args:
        error: What it raised, or its kind and text.
        few: What the model ran on.
        framework: Whose tensors those are.
    """

    def __init__(self, error: Exception | str, few: Few, framework: Framework) -> None:
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        given = [
            f"{str(x.dtype).rpartition('.')[2]} {tuple(x.shape)}"
            for x in leaves((few.args, few.kwargs))
            if framework.is_tensor(x)
        ]
        super().__init__(
            f"mixlayers ran the model by itself, in training mode on {few.size} samples of the batch "
            f"({', '.join(given)}), to find where all of a sample can be mixed, and the model raised {said}. The usual "
            "causes: it takes batches of one size alone, the samples belong together, or the example is not what it "
            "takes."
        )


@contextmanager
def auditing() -> Iterator[None]:
    """Around a forward that nobody asked for: mixers keep still, and what it warns of the next forward says again."""
    token = AUDITING.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        AUDITING.reset(token)


@dataclass(frozen=True)
class Hooks:
    """Interventions in a forward: at arguments and at layers' outputs.

    Attributes:
        after: By a layer's name: called with each of its outputs, and returns what it is to be.
        before: By a layer's name ("" is the model): called with its arguments.
        done: By a layer's name: called with its output when it has returned.
    """

    after: Mapping[str, After] = field(default_factory=dict)
    before: Mapping[str, Before] = field(default_factory=dict)
    done: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)

    @contextmanager
    def on(
        self, layers: Mapping[str, Any], register_after: str, again: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Around a forward: the interventions, as hooks on a framework's own layers.

        Args:
            layers: By name.
            register_after: Name of the layers' method that adds a hook after their forward.
            again: Whether a thread runs layers again for a backward pass that another one has begun.
        """

        def ours() -> bool:  # what another thread asks of the model is its own
            return AUDITING.get() or again()

        def changed(after: After, _layer: Any, _args: Any, output: Any) -> Any:
            return after(output) if ours() else None

        def given(before: Before, _layer: Any, args: Any, kwargs: Any = None) -> Any:
            return before(args, kwargs or {}) if ours() else None

        def returned(done: Callable[[Any], None], _layer: Any, _args: Any, output: Any) -> None:
            if ours():
                done(output)

        with ExitStack() as stack:  # also where a later name is no layer's
            for name, after in self.after.items():
                stack.callback(getattr(layers[name], register_after)(partial(changed, after)).remove)
            for name, before in self.before.items():
                handle = layers[name].register_forward_pre_hook(partial(given, before), with_kwargs=True)
                stack.callback(handle.remove)
            for name, done in self.done.items():
                stack.callback(getattr(layers[name], register_after)(partial(returned, done)).remove)
            yield


class Stage(ABC):
    """A framework's stage for the audit: a model in training mode, without chance, left as it was.

    Attributes:
        model: The model.
        chooses: Whether a single random number was drawn in a forward, which may decide whether layers run.
        groups: Of processes that were seen to take part in a forward together, in the framework's own form.
    """

    framework: ClassVar[Framework]
    model: Any
    chooses = False
    groups: tuple[Any, ...] = ()

    @abstractmethod
    def entry(self) -> Any:
        """The function that a call of the model calls."""

    def parameters(self) -> list[str]:
        """The names of the model's positional arguments, as many as a call may have."""
        try:
            taken = list(inspect.signature(self.entry()).parameters.values())
        except (TypeError, ValueError):  # of a built-in
            taken = []
        known = [each.name for each in taken if each.kind is not inspect.Parameter.VAR_POSITIONAL]
        return known + [f"number {at}" for at in range(len(known), _MOST_ARGUMENTS)]

    @abstractmethod
    def forward(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, uniform: float
    ) -> Any:
        """Run the model without gradients and return its output, detached."""

    def gradients(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, weigh: Weigh
    ) -> list[npt.NDArray[Any]]:
        """The parameters' gradients of a weighted sum of the outputs; empty where that is not asked."""
        return []

    @abstractmethod
    def parts(self, name: str, output: Any, batch_dim: int) -> tuple[list[tuple[Any, int]], After]:
        """A layer's output part by part, each with its batch axis; and how to put the parts together again."""

    def has_values(self, x: Any) -> bool:
        """Whether a tensor has values: without them the graph alone judges."""
        return True

    @abstractmethod
    def array(self, x: Any) -> npt.NDArray[Any]:
        """A tensor's values on the host, in a type that NumPy has."""

    @abstractmethod
    def take(self, x: Any, index: npt.NDArray[np.int64], axis: int) -> Any:
        """Some of a tensor's samples, or all in another order."""

    @abstractmethod
    def several(self, x: Any, count: int, axis: int) -> Any:
        """A tensor of few samples as one of more: theirs again, the values rolled along each, by one more each time."""


@dataclass(frozen=True)
class Few:
    """A few samples of a call.

    Attributes:
        args, kwargs: The call on them.
        size: How many they are.
        batch_dim: Their axis.
        whole: The call that they were taken from.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    size: int
    batch_dim: int
    whole: tuple[tuple[Any, ...], dict[str, Any]]

    @classmethod
    def of(
        cls,
        stage: Stage,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        batch_dim: int,
        beyond: int = FEW - 1,
    ) -> Few:
        """The samples that differ most in what is not floating-point; of a smaller batch, variants too.

        They are four, or a larger even number if an axis of an argument is as long, which could be taken for theirs.

        Args:
            stage, args, kwargs, batch_dim: The call.
            beyond: They are more than so many.
        """
        framework = stage.framework
        size = batch_size(framework, (args, kwargs), batch_dim)

        def batched(x: Any) -> bool:
            return is_batched(framework, x, size, batch_dim)

        lengths = {
            length
            for x in leaves((args, kwargs))
            if framework.is_tensor(x)
            for axis, length in enumerate(x.shape)
            if axis != batch_dim or not batched(x)
        }
        number = next(n for n in count(FEW, 2) if n > beyond and n not in lengths)
        whole = [
            x
            for x in leaves((args, kwargs))
            if batched(x) and not framework.is_float(x) and stage.has_values(x)
        ]
        rows = [np.moveaxis(stage.array(x), batch_dim, 0) for x in whole]
        chosen = np.array(differing(rows, size, number), dtype=np.int64)

        def few(x: Any) -> Any:
            if not batched(x):
                return x
            return stage.several(x, number, batch_dim) if size < number else stage.take(x, chosen, batch_dim)

        taken, named = tree_map(few, (args, kwargs))
        return cls(taken, named, number, batch_dim, (args, kwargs))

    def more(self, stage: Stage) -> Few:
        """More samples of the same call."""
        return Few.of(stage, *self.whole, self.batch_dim, self.size)

    def arguments(self, names: Sequence[str]) -> dict[str, Any]:
        """The arguments that are no labels, by name; what is in a container argument, one by one.

        Args:
            names: Those of the positional ones.
        """
        positional = dict(zip(names, self.args, strict=False))
        found: dict[str, Any] = {}
        for name, value in {**positional, **self.kwargs}.items():
            if name in LABELS:
                continue
            if isinstance(value, Mapping):
                found.update({f"{name}[{key!r}]": item for key, item in value.items() if key not in LABELS})
            elif isinstance(value, tuple | list):
                found.update({f"{name}[{at}]": item for at, item in enumerate(value)})
            else:
                found[name] = value
        return found


def is_batched(framework: Framework, x: Any, size: int, batch_dim: int) -> bool:
    """Whether x is a tensor with `size` samples."""
    return bool(framework.is_tensor(x) and x.ndim > batch_dim and x.shape[batch_dim] == size)


def arrays_of(stage: Stage, output: Any) -> list[npt.NDArray[Any]]:
    """The outputs that count, on the host."""
    tensors = output_tensors(stage.framework, output)
    return [stage.array(x) for x in tensors if stage.framework.is_float(x) and stage.has_values(x)]
