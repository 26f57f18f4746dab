"""What outlives a model's forwards: the step, where the method mixes, and whose use is expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock, get_ident
from threading import enumerate as enumerate_threads
from typing import Any
from weakref import ref

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import plain
from mixlayers._core.errors import MixingError
from mixlayers._core.methods.method import Method
from mixlayers._core.model.passes import Pass
from mixlayers._core.plan.plan import MixPlan

_SHARED: ContextVar[Mapping[Session, list[MixPlan]] | None] = ContextVar("mixlayers_shared", default=None)
"""The plans of `same_plan` blocks that are open in this thread or task: none until the first forward."""


class Session:
    """One model's mixing.

    Attributes:
        channel_dim: 1 or -1, where the features have their channels.
        by_tokens: Whether the label's share counts real tokens, so that it is known when the model has returned.
        step: Number of the next plan; all the state that a checkpoint needs.
        places: Where the method may mix; None until layers="auto" has seen a batch.
        last: The last forward that finished, for people to look at: nothing is decided by it.
        clean: What the outputs of forwards that have nothing to do with mixing carry.
        attached: Whether the hooks are on the model.
    """

    def __init__(
        self,
        method: Method,
        seed: int,
        rank: Callable[[], int],
        channel_dim: int = 1,
        by_tokens: bool = False,
    ) -> None:
        self.method, self.seed, self.rank = method, seed, rank
        self.channel_dim, self.by_tokens = channel_dim, by_tokens
        self.step = 0
        self.places: tuple[str, ...] | None = None
        self.clean, self.attached = Pass(self, ref(self)), True
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget the forwards so far."""
        self.last: Pass | None = None
        self._expected: list[Pass] = []

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

    def expect_use(self, mixed: Pass) -> None:
        """A pass's target must be used before the thread's next forward: no later gradient will ask."""
        with self._lock:
            if mixed not in self._expected:
                self._expected.append(mixed)

    @property
    def expected(self) -> list[Pass]:
        """The passes whose target is still to be used, all threads'."""
        return [mixed for mixed in self._expected if mixed.mixes and not mixed.used]

    def check_expected(self) -> None:
        """The next forward begins, of this thread.

        Raises:
            MixingError: If a target whose use was expected was not used.
        """
        if not self._expected:
            return
        others = {thread.ident for thread in enumerate_threads()} - {get_ident()}
        with self._lock:  # what a thread left that has ended, anybody's next forward asks for
            own = [mixed for mixed in self.expected if mixed.thread not in others]
            self._expected = [mixed for mixed in self._expected if mixed.thread in others]
        for mixed in own:
            mixed.check_used()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: If the state is not `{"step": n}` with n >= 0.
        """
        step = plain(state["step"]) if set(state) == {"step"} else None
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise ValueError(f'a mixer\'s state is {{"step": n}} with n >= 0, got {state!r}.')
        self.reset()
        self.step = step

    def __getstate__(self) -> dict[str, Any]:
        """A copied or pickled session starts with the next forward."""
        return {
            "step": self.step,
            "places": self.places,
            "of": (self.method, self.seed, self.rank, self.channel_dim, self.by_tokens),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        Session.__init__(self, *state["of"])
        self.step, self.places = state["step"], state["places"]
