"""What a mixer does when its hooks on layers call it, and what it asks of a backend."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from mixlayers._core.audit.stage import AUDITING, Stage
from mixlayers._core.audit.trial import Trial
from mixlayers._core.batch.mix import mix_tree
from mixlayers._core.framework.framework import Framework
from mixlayers._core.methods.method import Method
from mixlayers._core.model.autograd import Autograd, Segment
from mixlayers._core.model.padding import Padding
from mixlayers._core.model.passes import Pass, causes, close_pass, running
from mixlayers._core.model.recompute import inside, owner
from mixlayers._core.model.session import Session, leave_untagged
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import INPUT, MixPlan

if TYPE_CHECKING:
    from mixlayers._core.model.judge import Judge

Module = TypeVar("Module")


class Acting(NamedTuple):
    """The pass that a call of a layer belongs to, and whether the layer runs again apart from the whole model."""

    mixed: Pass | None
    again: bool
    segments: Sequence[Segment] = ()
    plan: MixPlan | None = None  # what the pass does at the layer


class LayerHooks(ABC, Generic[Module]):
    """The part of a mixer that layers' hooks call, and what it asks of a backend."""

    framework: ClassVar[Framework]
    autograd: ClassVar[Autograd]
    method: Method

    @abstractmethod
    def _check_wrappable(self, model: Module) -> None:
        """Raise unless hooks on this object will see the model's forwards, and no other mixer's are there."""

    @abstractmethod
    def _named_layers(self, model: Module) -> Mapping[str, Module]:
        """The model's modules by name, without the model itself."""

    def _inner(self, model: Module) -> Module:
        """The model itself, where what is wrapped is a compiled container of it."""
        return model

    @abstractmethod
    def _training(self, model: Module) -> bool:
        """Whether the model is in training mode."""

    @abstractmethod
    def _hook_model(self, model: Module) -> None:
        """Around each forward, have `_enter` called before it, `_leave` after it, and `_close` also if it raised."""

    @abstractmethod
    def _hook_layer(self, layer: Module, name: str) -> None:
        """Have `_mix_at` called with each output of the layer in a pass that mixes there: see `acting_at`."""

    def _hook_mask(self, layer: Module, name: str, places: Mapping[str, int]) -> None:
        """Have the padding's `before` and `after` called around each call of a module that takes masks."""
        raise NotImplementedError

    def _not_run_hint(self) -> str:
        """What, in this framework, may keep the planned layer from being seen though it ran."""
        return ""

    @abstractmethod
    def _audit(self, model: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
        """Put one call of the model on trial."""

    @abstractmethod
    def _stage(self, model: Module) -> Stage:
        """Where the audit runs the model."""

    def _worst(self, stage: Stage) -> Callable[[float], float]:
        """The largest of a number over the processes that run the model together, after a forward on the stage."""
        return float

    _session: Session
    batch_dim: int
    keep: frozenset[str]
    channel_dim: int
    _padding: Padding
    _implicit: bool
    _judge: Judge

    def _partners(self, mixed: Pass) -> Any:
        if mixed.partners is None and mixed.plan is not None:
            mixed.partners = self.framework.partners(mixed.plan.perm)
        return mixed.partners

    def _mix_at(self, acting: Acting, parts: Iterable[tuple[Any, int]]) -> list[Any]:
        """Mix what the planned layer returned, part by part, each with its own batch axis."""
        mixed: Any = acting.mixed
        plan: Any = acting.plan
        features, shares = zip(*(self._mix(part, plan, mixed, axis) for part, axis in parts), strict=True)
        if not acting.again:
            mixed.fire(plan.place, [share for part in shares for share in part])
            self._carry(features, mixed.origin)
            self._keep(features, mixed)
        if acting.again or mixed.of is not None:
            mixed.origin.replays += 1
            if not mixed.origin.watched:
                mixed.origin.gradient_arrives(self.autograd)
        else:
            self._follow(mixed, acting.segments)
        return list(features)

    def acting(self) -> Acting:
        """The pass that a call of a layer belongs to."""
        if AUDITING.get():
            return Acting(None, again=False)
        top = running(self._session)
        segments = self.autograd.segments(gradients=top is not None and top.gradients)
        if not segments:
            return Acting(top, again=False)
        within = inside(top, segments)
        return Acting(*owner(self._session, top, within), within)

    def acting_at(self, place: str) -> Acting:
        """The same, with a pass only if its plan mixes at this place."""
        acting = self.acting()
        mixed = acting.mixed
        plan = None if mixed is None or mixed.plan is None else mixed.plan.at(place)
        if mixed is None or plan is None:
            return Acting(None, again=False)
        if not acting.again and not on_stack(mixed.frame):  # a KeyboardInterrupt left it
            close_pass(mixed)
            return Acting(None, again=False)
        return acting._replace(plan=plan)

    def _follow(self, mixed: Pass, segments: Sequence[Segment]) -> None:
        """Make sure that the place, if its gradient needs that, runs again in backward and is known there."""
        # of segments in each other the graph has the outermost one's node only
        node = next((segment.node for segment in reversed(segments) if segment.node is not None), None)
        mixed.recomputed = mixed.recomputed or bool(segments)
        if node is not None:
            self.autograd.check_replayed(node, mixed)
        lost = not segments and mixed.gradients and not self.autograd.grad_enabled()
        if lost or not all(segment.whole for segment in segments):
            self._session.unseen.add(mixed)

    def _keep(self, tree: Any, mixed: Pass, inputs: Sequence[Any] = ()) -> None:
        """Have what was mixed at hand, in case that the model returns nothing that could be watched."""
        if mixed.given is not None or mixed.scope is not None:
            own = (x for x in self.framework.tensors([tree]) if all(x is not other for other in inputs))
            mixed.features = list(filter(self.autograd.wants_gradient, own))

    def _carry(self, tree: Any, mixed: Pass, inputs: Sequence[Any] = ()) -> bool:
        """Have the tensors in a tree carry their pass."""
        tensors = self.framework.tensors([tree])
        if mixed.mixes and not any(map(self.autograd.wants_gradient, tensors)):
            leave_untagged(mixed)
        return self.autograd.tag(tensors, mixed, mixed.nodes, inputs)

    def _mixed_inside(self, output: Any) -> list[Pass]:
        """The mixed forwards inside one that is not mixed itself, whose outputs have a part in its own."""
        return [
            found for found in causes(self.autograd.tagged(self.framework.tensors([output]))) if found.mixes
        ]

    def _mix(
        self, tree: Any, plan: MixPlan, mixed: Pass, batch_dim: int | None = None
    ) -> tuple[Any, list[tuple[Lam, Sequence[int]]]]:
        self.framework.check_mixing()
        axis = self.batch_dim if batch_dim is None else batch_dim
        keep = self.keep if plan.place == INPUT else ()
        own = self._partners(mixed) if plan is mixed.plan else self.framework.partners(plan.perm)
        return mix_tree(self.framework, tree, plan, own, axis, self.channel_dim, keep)


def caller(between: tuple[str, ...]) -> FrameType:
    """The call of the model that a hook runs in, past the functions of mixlayers and of other modules in between."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        ("mixlayers", *between)
    ):
        frame = frame.f_back
    return frame


def on_stack(frame: FrameType | None) -> bool:
    """Whether a call is still on this thread's stack; one that KeyboardInterrupt ended told no hook."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not frame:
        here = here.f_back
    return here is not None
