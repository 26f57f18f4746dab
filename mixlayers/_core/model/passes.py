"""One forward of a wrapped model: the decision that its tensors carry, and the call while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock, get_ident
from types import FrameType
from typing import Any, Protocol
from weakref import WeakSet, ref

from mixlayers._core.batch.token_masks import Meaning
from mixlayers._core.errors import refuse
from mixlayers._core.framework.framework import Framework
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.autograd import Autograd, Backward, Segment
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import MixPlan, Shares


class Owner(Protocol):
    """What a pass knows of its mixer: see `Session`."""

    attached: bool
    by_tokens: bool
    channel_dim: int

    def expect_use(self, mixed: Pass) -> None:
        """A pass's target must be used before the thread's next forward."""


@dataclass(eq=False)
class Pass:
    """What was decided for one forward. The tensors that it returns carry it; nobody else needs to keep it."""

    session: Owner
    model: ref[Any]
    plan: MixPlan | None = None  # None if the forward was not to be mixed
    shares: Shares = ()  # the partner's share in each mixed feature, with its shape
    s: Lam | None = 0.0  # the partner's share of the label; None until it is known
    sources: list[Pass] = field(default_factory=list)  # whose outputs it was called with, if any is mixed
    # whose use is its use: targets, and clean forwards that were called with its outputs
    users: list[MixedTarget | Pass] = field(default_factory=list)
    calls: list[Pass] = field(default_factory=list)  # of the model inside it, for when it runs again
    united: dict[str, frozenset[str] | None] = field(default_factory=dict)  # see `padding`
    masks: list[Any] = field(default_factory=list)  # those that modules were given, as they were given them
    unions: list[Any] = field(default_factory=list)  # masks that are united, or were made of such
    watched: bool = False  # whether it is told of its gradient, also where its place does not run again
    recomputed: bool = False  # whether the model or its place was called in a segment that runs again
    replays: int = 0  # how often the place ran again
    unseen: bool = False  # whether its recomputation could not be followed
    untagged: bool = False  # whether its features are in no graph that could carry it: only its outputs are
    thread: int = field(default_factory=get_ident)
    _partners: Any = None

    def follow(self, plan: MixPlan) -> None:
        """The forward is to be mixed by a plan."""
        self.plan = plan
        if plan.place is not None:
            self.s = None
            with _LOCK:
                _PLANNED.add(self)

    def partners_of(self, framework: Framework) -> Any:
        """The plan's permutation, as the framework carries it out; made once."""
        if self._partners is None and self.plan is not None:
            self._partners = framework.partners(self.plan.perm)
        return self._partners

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed, so that labels must follow."""
        return self.plan is not None and self.plan.mixes

    @property
    def used(self) -> bool:
        """Whether a loss took its target, or that of a forward without another plan whose inputs came from it."""
        return any(user.used for user in self.users)

    def purpose(self, autograd: Autograd) -> Backward:
        """What the running backward pass is for, seen from the model."""
        model = self.model()
        return autograd.backward(() if model is None else autograd.parameters(model))

    def gradient_arrives(self, autograd: Autograd) -> None:
        """A gradient of what the model returned arrived, or the forward runs again for one.

        Raises:
            MixingError: If it trains and no loss used the target, or if layers are to run again that are no
                longer the wrapped model's.
        """
        if self.plan is None or self.plan.place is None:
            return
        if self.recomputed and not self.session.attached:
            refuse(
                "the model was unwrapped after a mixed forward whose layers run again in backward, where they "
                "would not be mixed",
                "call backward first, then unwrap(model)",
            )
        if not self.mixes or self.used:
            return
        purpose = self.purpose(autograd)
        if purpose is Backward.TRAINING:
            self.check_used()
        elif purpose is Backward.PARAMETERS:
            self.session.expect_use(self)

    def check_used(self) -> None:
        """Raise if the features were mixed and no loss used the target."""
        if self.plan is not None and self.mixes and not self.used:
            refuse(
                f"the features were mixed at {self.plan.place!r}, but no loss used the mixed target",
                "compute the loss with cross_entropy(output, target), target.blend(...) or "
                "criterion = mixer.loss(...); a trainer with a loss of its own (label smoothing, "
                "a model called with labels=) bypasses them; to use the model unmixed, unwrap(model)",
            )

    def __reduce__(self) -> Any:
        """A pass belongs to the tensors of this process: copies of what refers to it have none."""
        return type(None), ()


_PLANNED: WeakSet[Pass] = WeakSet()
_LOCK = Lock()


def any_lives() -> bool:
    """Whether something carries a pass that acts at a place, of any model."""
    return len(_PLANNED) > 0


def living() -> list[Pass]:
    """Those passes."""
    with _LOCK:
        return list(_PLANNED)


def causes(found: Iterable[Pass]) -> list[Pass]:
    """The passes that decide on a label: a clean one of mixed inputs hands its inputs' on."""
    decisive: dict[Pass, None] = {}
    for each in found:
        if each.mixes or not each.sources:
            decisive[each] = None
        decisive.update(dict.fromkeys(each.sources))
    return list(decisive)


@dataclass(eq=False)
class Call:
    """A forward while it runs, for the first time or again."""

    mixed: Pass  # where it runs again, that of the first time
    top: Call | None  # the forward of the same model that it is called inside of
    segments: Sequence[Segment]  # the recomputed ones around it
    frame: FrameType  # its place on Python's stack
    gradients: bool  # whether they were recorded where the model was called
    nodes: list[Any] = field(default_factory=list)  # of the graph around it, which run without gradients
    again: Iterator[Pass] | None = None  # while it runs again: the calls that were made inside it
    target: MixedTarget | None = None  # what the labels become, where the call knows them
    hands_out: bool = False  # whether they came as target=, so that the call returns the target
    mixed_at: set[str] = field(default_factory=set)  # the planned places that ran, and were mixed
    features: list[Any] = field(default_factory=list)  # what was mixed, where the target is known already
    tokens: tuple[Any, Meaning] | None = None  # the first padding mask that a module was given
    united_in: str | None = None  # the module that runs and was given the union of masks

    @property
    def mixed_already(self) -> bool:
        """Whether every planned place ran, and was mixed."""
        return self.mixed.plan is not None and self.mixed_at.issuperset(self.mixed.plan.places)

    def open(self) -> None:
        """The forward begins, and those are forgotten, of any model, that KeyboardInterrupt ended."""
        _RUNNING.set((*(call for call in _RUNNING.get() if _on_stack(call.frame)), self))

    def close(self) -> None:
        """The forward is over, also if it raised."""
        _RUNNING.set(tuple(call for call in _RUNNING.get() if call is not self))

    def begin_recompute(self, of: Pass) -> None:
        """Be a forward of before again, instead of a new one."""
        self.mixed, self.again, self.nodes = of, iter(of.calls), []

    def mark_mixed(self, place: str, shares: Shares) -> None:
        """The planned place was mixed.

        Raises:
            MixingError: If it was mixed before, or held no tensor to mix.
        """
        plan = self.mixed.plan
        if plan is None or place in self.mixed_at:
            refuse(
                f"the layer {place!r} ran twice in one forward, so it would be mixed twice",
                "choose a layer that runs once; audit(model, example) lists them",
            )
        if not shares:
            refuse(
                f"the output of {place!r} has no floating-point tensor with {plan.batch_size} samples on its batch "
                "axis",
                "choose another layer (audit(model, example) lists them), or give the batch axis as batch_dim=",
            )
        self.mixed_at.add(place)
        if self.again is None:
            self.mixed.shares = shares
            self.mixed.s = None if plan.mixes and self.mixed.session.by_tokens else plan.label_share(shares)

    def check_mixed(self, hint: str = "") -> None:
        """The model returned: raise if the planned place did not run.

        Args:
            hint: What else than the choice of layers may keep the planned one from being seen.
        """
        places = () if self.mixed.plan is None else self.mixed.plan.places
        for missing in (place for place in places if place not in self.mixed_at):
            refuse(
                f"the planned layer {missing!r} did not run in this forward, so only the labels would be mixed",
                "choose layers that always run; audit(model, example) lists them" + hint,
            )


_RUNNING: ContextVar[tuple[Call, ...]] = ContextVar("mixlayers_running", default=())
"""The forwards that are running, outermost first: of this thread or task, since another's are its own."""


def innermost(session: Owner) -> Call | None:
    """A model's last call that was opened and not closed."""
    for call in reversed(_RUNNING.get()):
        if call.mixed.session is session:
            return call
    return None


def running(session: Owner) -> Call | None:
    """A model's innermost running forward. One that KeyboardInterrupt ended told no hook: it is closed here."""
    while (call := innermost(session)) is not None and not _on_stack(call.frame):
        call.close()
    return call


def inside(top: Call | None, segments: Sequence[Segment]) -> list[Segment]:
    """The segments that began after a running forward did."""
    around = [] if top is None else [known.notebook for known in top.segments]
    return [segment for segment in segments if not any(segment.notebook is known for known in around)]


def caller(between: tuple[str, ...]) -> FrameType:
    """The call of the model that a hook runs in, past the functions of mixlayers and of other modules in between."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        ("mixlayers", *between)
    ):
        frame = frame.f_back
    return frame


def _on_stack(frame: FrameType) -> bool:
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not frame:
        here = here.f_back
    return here is not None
