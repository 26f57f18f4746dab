"""The planner: a model's plans where no hook is, drawn on the host and handed to the step as data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.audit.places import Layers, auto_layers, named_places
from mixlayers._core.audit.report import PARTIAL, UNREACHED, Audit
from mixlayers._core.batch.mix import host_labels
from mixlayers._core.framework.framework import Framework
from mixlayers._core.methods.method import Method
from mixlayers._core.methods.mixup import ManifoldMixup
from mixlayers._core.model.history import History
from mixlayers._core.model.judge import Trust, refuted
from mixlayers._core.model.session import Session
from mixlayers._core.plan.plan import MixPlan


class Planner:
    """Draws one model's plans, step by step.

    Args:
        framework: Whose arrays the labels are.
        method: What to do in each step; None: ManifoldMixup(alpha=2).
        seed: The run's seed.
        rank: The process's number; None: the framework's own. Equal ranks draw equal plans.

    Attributes:
        history: What each plan says (layer, lam, share), and how often each layer was drawn.
        last: The last plan that was drawn.
    """

    def __init__(self, framework: Framework, method: Method | None, seed: int, rank: int | None) -> None:
        self.method = ManifoldMixup() if method is None else method
        if not isinstance(self.method, Method):
            raise TypeError(f"method must be a method such as ManifoldMixup(), got {method!r}.")
        self.framework, self.history = framework, History()
        self.last: MixPlan | None = None
        self._session = Session(self.method, seed, framework.rank if rank is None else partial(int, rank))

    @property
    def step(self) -> int:
        """Number of the next plan."""
        return self._session.step

    @property
    def places(self) -> tuple[str, ...]:
        """Where the method may mix."""
        return self._session.places or ()

    def choose(
        self,
        layers: Layers,
        modules: Mapping[str, object],
        report: Audit,
        trust: Trust,
        *,
        input_is_true: bool,
    ) -> None:
        """Settle where the method may mix.

        Args:
            layers, trust: As of `Mixer`.
            modules: The model's layers by name.
            report: Its audit.
            input_is_true: Whether all that a model is called with can be mixed at the input.

        Raises:
            ValueError: If there is no such place; if a named one is no true mixing point.
        """
        places = named_places(self.method, layers, modules)
        if places is None:
            try:
                places = auto_layers(report, layers)
            except ValueError as error:
                raise ValueError(f"layers={layers!r}: {error}") from error
        trusted = places if trust is True else () if trust is False else trust
        for place in places:
            reason = ("" if input_is_true else PARTIAL) if place not in modules else report[place].reason
            if reason in (PARTIAL, UNREACHED) and not self.method.mixes_labels:
                continue
            if reason == PARTIAL and place not in trusted:
                raise ValueError(refuted(place, reason))
            if reason not in ("", PARTIAL):
                raise ValueError(
                    f"layer {place!r} cannot be mixed ({reason}): choose another layer, audit(model, example) lists "
                    "the true ones."
                )
        self._session.places = places

    def draw(self, size: int, labels: Any = None, lengths: Any = None) -> MixPlan:
        """The next plan.

        Args:
            size: N.
            labels: The step's labels, for a method that decides by class or label.
            lengths: Each sample's real tokens, (N,), for pairs by length.
        """
        self.framework.check_mixing()
        return self._session.draw(size, *self.host_labels(labels, lengths))

    def host_labels(
        self, labels: Any, lengths: Any = None
    ) -> tuple[npt.NDArray[np.int64] | None, dict[str, npt.NDArray[Any]] | None]:
        """What the pairs need of labels and lengths; raises ValueError if they were not given."""
        method, classes, near = self.method, None, None
        if method.needs_labels:
            if labels is None:
                raise ValueError(
                    f"{method!r} decides by class or label: mixer.plan(batch_size, labels=labels), got none."
                )
            classes, near = host_labels(self.framework, method, labels)
        if "length" not in method.near:
            return classes, near
        if lengths is None:
            raise ValueError(
                f"{method!r} pairs by length: mixer.plan(batch_size, lengths=lengths), got none."
            )
        return classes, {**(near or {}), "length": self.framework.to_numpy(lengths).astype(np.int64)}

    def note(self, plan: MixPlan, s: Any) -> None:
        """Remember a plan that was handed out, with the partner's share."""
        self.last = plan
        self.history._add(plan, s)

    def state_dict(self) -> dict[str, int]:
        """As of `PlannedMixer`."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As of `PlannedMixer`."""
        self._session.load_state_dict(state)
        self.last = None


class PlannedMixer:
    """What mixers share whose plans are data of a step, since no hook carries them out."""

    _planner: Planner

    @property
    def method(self) -> Method:
        """What is done in each step."""
        return self._planner.method

    @property
    def history(self) -> History:
        """What each step did."""
        return self._planner.history

    @property
    def step(self) -> int:
        """Number of the next plan."""
        return self._planner.step

    @property
    def places(self) -> tuple[str, ...] | None:
        """Where the method may mix; None until a batch has told."""
        return self._planner.places or None

    @property
    def last(self) -> MixPlan | None:
        """The last plan that was drawn, as the core has it."""
        return self._planner.last

    def state_dict(self) -> dict[str, int]:
        """The state for a checkpoint: `{"step": n}`."""
        return self._planner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint: the next plan is the one that an uninterrupted run would have drawn."""
        self._planner.load_state_dict(state)

    def __repr__(self) -> str:
        return f"Mixer({self.method!r}, places={self.places}, step={self.step})"
