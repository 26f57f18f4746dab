"""The bookkeeping of a model's mixed steps: what is planned, what has happened, what is still owed.

It knows no tensor. A backend's hooks tell it what the framework does; it answers what to mix, and raises
when features and labels would part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mixlayers._errors import MixingError
from mixlayers._lam import Lam
from mixlayers._method import Method
from mixlayers._plan import MixPlan, Shares, joint_share
from mixlayers._target import MixedTarget


class Session:
    """One model's mixing, forward after forward.

    Attributes:
        step: Number of the next plan; all the state that a checkpoint needs.
        places: Where the method may mix; None until layers="auto" has seen a batch.
        plan: The plan of the last forward, kept until the next one, since activation checkpointing runs
            layers again in backward. None if that forward was not to be mixed.
        s: The partner's share in the last forward.
        shares: That in each mixed feature.
        target: The target that goes with the plan, once the forward is over.
        running: Whether a forward is in progress.
    """

    def __init__(self, method: Method, seed: int, rank: Callable[[], int]) -> None:
        self.method, self.seed, self.rank = method, seed, rank
        self.step = 0
        self.places: tuple[str, ...] | None = None
        self.forget()

    def forget(self) -> None:
        """Drop what belongs to the current step; the step number stays."""
        self.plan: MixPlan | None = None
        self.target: MixedTarget | None = None
        self.running = False
        self.s: Lam = 0.0
        self._replayed: MixPlan | None = None
        self.shares: Shares = ()
        self._seen_in_backward = False

    def begin(
        self,
        batch_size: int,
        labels: npt.NDArray[np.integer] | None = None,
        near: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> MixPlan:
        """Start a mixed forward: draw its plan.

        Raises:
            MixingError: If the last mixed forward's target was never used.
        """
        self.begin_clean()
        plan = self.method.plan(
            step=self.step,
            batch_size=batch_size,
            places=self.places or (),
            seed=self.seed,
            rank=self.rank(),
            labels=labels,
            near=near,
        )
        self.step += 1
        self.plan, self.running = plan, True
        return plan

    def begin_clean(self) -> None:
        """Start a forward that is not to be mixed; raises like `begin`."""
        if self.target is not None and not self._seen_in_backward:
            self._check_used(self.target)
        self.forget()

    def begin_again(self, own: tuple[MixPlan | None] | None = None) -> MixPlan | None:
        """Start a forward again, with its own plan: the whole model is recomputed in backward.

        Args:
            own: The forward's plan, where it is known; else it is the one whose gradient arrived last.
        """
        self.plan = (self._replayed or self.plan) if own is None else own[0]
        self.running, self.shares = self.plan is not None, ()
        return self.plan

    @property
    def fired(self) -> bool:
        """Whether the running forward has been mixed."""
        return bool(self.shares)

    @property
    def idle(self) -> bool:
        """Whether neither the last forward nor one that is recomputed was to be mixed."""
        return self.plan is None and self._replayed is None

    def acting(self, *, in_backward: bool, own: tuple[MixPlan | None] | None = None) -> MixPlan | None:
        """The plan of the forward that a call belongs to, which may be a recomputed one; see `plan_at`."""
        if in_backward and not self.running:
            return (self._replayed or self.plan) if own is None else own[0]
        return self.plan if self.running else None

    def plan_at(
        self, place: str, *, in_backward: bool, own: tuple[MixPlan | None] | None = None
    ) -> MixPlan | None:
        """The plan, if it mixes at this place now.

        Args:
            place: The layer that ran.
            in_backward: Whether it runs again, recomputed.
            own: The plan of the forward that is recomputed, where it is known.

        Raises:
            MixingError: If the place was mixed before in this forward.
        """
        plan = self.acting(in_backward=in_backward, own=own)
        if plan is None or plan.place != place:
            return None
        if self.running and self.shares:
            self.fail(
                f"the layer {place!r} ran twice in one forward, so it would be mixed twice",
                "choose a layer that runs once; audit(model, example) lists them",
            )
        return plan

    def mixed(self, place: str, shares: Shares) -> None:
        """The place was mixed: the partner's share and the shape, tensor by tensor.

        Raises:
            MixingError: If there was no tensor to mix.
        """
        if not shares:
            size = self.plan.batch_size if self.plan is not None else None
            self.fail(
                f"the output of {place!r} has no floating-point tensor with {size} samples on its batch axis",
                "choose another layer (audit(model, example) lists them), or give the batch axis as batch_dim=",
            )
        if self.running:
            self.shares = shares

    def end(self, hint: str = "") -> Lam:
        """Finish a forward; returns the partner's share s.

        Args:
            hint: What else than the choice of layers may keep the planned one from being seen.

        Raises:
            MixingError: If the planned layer did not run.
        """
        self.running = False
        if self.plan is not None and self.plan.place is not None:
            if not self.shares:
                self.fail(
                    f"the planned layer {self.plan.place!r} did not run in this forward, so only the labels "
                    "would be mixed",
                    "choose layers that always run; audit(model, example) lists them" + hint,
                )
            self.s = joint_share(self.shares)
        return self.s

    def owe(self, target: MixedTarget, *, seen_in_backward: bool) -> None:
        """The last forward's target must be used: checked in backward, or else at the next forward."""
        self.target, self._seen_in_backward = target, seen_in_backward

    def backward_begins(self, target: MixedTarget) -> None:
        """The gradient of a forward's output arrived; recomputed layers now follow that forward's plan.

        Raises:
            MixingError: If the forward's target was never used.
        """
        self._check_used(target)
        self._replayed = target.plan

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint needs: the step."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: If the state is not `{"step": n}` with n >= 0.
        """
        if set(state) != {"step"} or not isinstance(state["step"], int) or state["step"] < 0:
            raise ValueError(f'a mixer\'s state is {{"step": n}} with n >= 0, got {dict(state)!r}.')
        self.forget()
        self.step = state["step"]

    def __getstate__(self) -> dict[str, Any]:
        """A copied or pickled session starts with the next forward."""
        fresh = Session(self.method, self.seed, self.rank)
        fresh.step, fresh.places = self.step, self.places
        return vars(fresh)

    def _check_used(self, target: MixedTarget) -> None:
        if target.mixed and not target.used:
            self.fail(
                f"the features were mixed at {target.layer!r}, but no loss used the mixed target",
                "compute the loss with cross_entropy(output, target), target.blend(...) or "
                "criterion = mixer.loss(...); a trainer with a loss of its own (label smoothing, "
                "a model called with labels=) bypasses them",
            )

    def fail(self, what: str, way_out: str) -> NoReturn:
        """Refuse the step."""
        self.forget()
        raise MixingError(f"{what}: {way_out}.")
