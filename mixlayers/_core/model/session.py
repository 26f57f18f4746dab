"""What outlives a model's forwards: the step, where the method mixes, and what is owed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock, get_ident
from threading import enumerate as enumerate_threads
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import plain
from mixlayers._core.errors import MixingError
from mixlayers._core.methods.method import Method
from mixlayers._core.model.passes import Pass
from mixlayers._core.plan.plan import MixPlan

_SHARED: ContextVar[Mapping[Session, list[MixPlan]] | None] = ContextVar("mixlayers_shared", default=None)
"""The plans of `same_plan` blocks that are open in this thread or task: none until the first forward."""

_UNTAGGED: WeakSet[Pass] = WeakSet()
"""Mixed passes, of all models, whose features are in no graph that could carry them: only their outputs are."""

_UNTAGGED_LOCK = Lock()


def leave_untagged(mixed: Pass) -> None:
    """A pass's features could not carry it."""
    with _UNTAGGED_LOCK:
        _UNTAGGED.add(mixed)


def untagged(kind: Any) -> list[Any]:
    """The models, of a kind, whose mixed features may not tell that they are."""
    with _UNTAGGED_LOCK:
        models = [found.model() for found in _UNTAGGED if found.mixes]
    return [model for model in models if isinstance(model, kind)]


class Session:
    """One model's mixing.

    Attributes:
        step: Number of the next plan; all the state that a checkpoint needs.
        places: Where the method may mix; None until layers="auto" has seen a batch.
        last: The last forward that finished, for people to look at: nothing is decided by it.
        clean: What the outputs of forwards that have nothing to do with mixing carry.
        attached: Whether the hooks are on the model.
        unseen: Mixed passes whose recomputation could not be followed.
    """

    def __init__(self, method: Method, seed: int, rank: Callable[[], int]) -> None:
        self.method, self.seed, self.rank = method, seed, rank
        self.step = 0
        self.places: tuple[str, ...] | None = None
        self.last: Pass | None = None
        self.clean = Pass(self, self)
        self.attached = True
        self.unseen: WeakSet[Pass] = WeakSet()
        self._owed: list[Pass] = []
        self._lock = Lock()

    def draw(
        self,
        batch_size: int,
        labels: npt.NDArray[np.integer] | None = None,
        near: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> MixPlan:
        """The next plan, or inside `same_plan` the one that the first forward there drew.

        Raises:
            MixingError: If that one is for another batch size.
        """
        shared = (_SHARED.get() or {}).get(self, [])
        if shared and shared[0].batch_size != batch_size:
            raise MixingError(
                f"same_plan() began with {shared[0].batch_size} samples, and a forward inside it has {batch_size}: "
                "one plan is for one batch."
            )
        if shared:
            return shared[0]
        with self._lock:
            step, self.step = self.step, self.step + 1
        plan = self.method.plan(
            step=step,
            batch_size=batch_size,
            places=self.places or (),
            seed=self.seed,
            rank=self.rank(),
            labels=labels,
            near=near,
        )
        shared.append(plan)  # of a list of its own where no block is open
        return plan

    @contextmanager
    def same_plan(self) -> Iterator[None]:
        """The forwards inside share the plan of the first; a block inside another is part of it."""
        shared = _SHARED.get() or {}
        token = _SHARED.set({**shared, self: shared.get(self, [])})
        try:
            yield
        finally:
            _SHARED.reset(token)

    def owe(self, mixed: Pass) -> None:
        """A pass's target must be used before the thread's next forward: no later gradient will ask."""
        with self._lock:
            if all(owed is not mixed for owed in self._owed):
                self._owed.append(mixed)

    @property
    def owed(self) -> list[Pass]:
        """The passes whose target is still to be used, all threads'."""
        return [owed for owed in self._owed if owed.mixes and not owed.used]

    def settle(self) -> None:
        """The next forward begins, of this thread.

        Raises:
            MixingError: If a target that was owed was not used.
        """
        if not self._owed:
            return
        others = {thread.ident for thread in enumerate_threads()} - {get_ident()}
        with self._lock:  # what a thread left that has ended, anybody's next forward asks for
            own = [owed for owed in self.owed if owed.thread not in others]
            self._owed = [other for other in self._owed if other.thread in others]
        for mixed in own:
            mixed.check_used()

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint needs: the step."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: If the state is not `{"step": n}` with n >= 0.
        """
        step = plain(state["step"]) if set(state) == {"step"} else None
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise ValueError(f'a mixer\'s state is {{"step": n}} with n >= 0, got {state!r}.')
        self._owed, self.last = [], None
        self.step = step

    def __getstate__(self) -> dict[str, Any]:
        """A copied or pickled session starts with the next forward."""
        return {"step": self.step, "places": self.places, "of": (self.method, self.seed, self.rank)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Session.__init__(self, *state["of"])
        self.step, self.places = state["step"], state["places"]
