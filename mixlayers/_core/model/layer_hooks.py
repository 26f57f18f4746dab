"""The mixer's side of hooks on layers, and what it asks of a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from mixlayers._core.audit.rows import Rows
from mixlayers._core.audit.stage import AUDITING, Stage
from mixlayers._core.audit.trial import Trial
from mixlayers._core.batch.mix import mix_tree
from mixlayers._core.framework.framework import Framework
from mixlayers._core.methods.method import Method
from mixlayers._core.model.autograd import Autograd, Segment
from mixlayers._core.model.padding import Padding
from mixlayers._core.model.passes import Call, Pass, any_lives, causes, inside, running
from mixlayers._core.model.recompute import Replayed, owner
from mixlayers._core.model.session import Session
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import INPUT, MixPlan

Module = TypeVar("Module")


class Current(NamedTuple):
    """Whose call of a layer this is.

    Attributes:
        mixed: The pass that it belongs to.
        call: The forward that runs; None where the layer runs again apart from the whole model.
        segments: The recomputed segments around the layer, inside that forward.
        plan: What the pass does at the layer, where that was asked.
    """

    mixed: Pass | None = None
    call: Call | None = None
    segments: Sequence[Segment] = ()
    plan: MixPlan | None = None  # what the pass does at the layer


class LayerHooks(ABC, Generic[Module]):
    """The part of a mixer that layers' hooks call, and what it asks of a backend."""

    _framework: ClassVar[Framework]
    _autograd: ClassVar[Autograd]
    method: Method
    batch_dim: int
    channel_dim: int
    keep: frozenset[str]
    _session: Session
    _padding: Padding
    _names: Sequence[str]
    _rows: Rows

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
        """Have `_mix_at` called with each output of the layer that `_current_plan_at` has a pass for."""

    def _hook_mask(self, layer: Module, name: str) -> None:
        """Have `_enter_masked` and `_leave_masked` called around each call of a module that takes masks."""
        raise NotImplementedError

    def _not_run_hint(self) -> str:
        """Causes, in this framework, of a planned layer that ran unseen."""
        return ""

    @abstractmethod
    def _audit(self, model: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
        """Put one call of the model on trial."""

    @abstractmethod
    def _stage(self, model: Module) -> Stage:
        """The audit's stage."""

    def _worst(self, stage: Stage) -> Callable[[float], float]:
        """The largest of a number over the processes that run the model together, after a forward on the stage."""
        return float

    def _alone(self) -> bool:
        """Whether no other process may run the model together with this one."""
        return True

    def _current_plan(self) -> Current:
        """The pass that a call of a layer belongs to."""
        if AUDITING.get():
            return Current()
        call = running(self._session)
        segments = self._autograd.segments(gradients=call is not None and call.gradients)
        if not segments:
            return Current(None if call is None else call.mixed, call)
        within = inside(call, segments)
        mixed, again = owner(self._session, call, within)
        return Current(mixed, None if again else call, within)

    def _current_plan_at(self, place: str) -> Current:
        """The acting pass if its plan mixes at this place."""
        current = self._current_plan()
        plan = None if current.mixed is None or current.mixed.plan is None else current.mixed.plan.at(place)
        return Current() if plan is None else current._replace(plan=plan)

    def _mix_at(self, current: Current, parts: Iterable[tuple[Any, int]]) -> list[Any]:
        """Mix what the planned layer returned, part by part, each with its own batch axis."""
        mixed: Any = current.mixed
        plan: Any = current.plan
        parts = list(parts)
        each = enumerate(parts)
        features, shares = zip(
            *(self._mix(part, plan, mixed, axis, at) for at, (part, axis) in each), strict=True
        )
        call = current.call
        if call is not None:
            call.mark_mixed(plan.place, [share for part in shares for share in part])
            # what the layer hands on may be the user's own, such as a mask, and come again
            self._carry_features(features, call, self._framework.tensors([part for part, _ in parts]))
        if call is not None and call.again is None:
            self._follow(call, current.segments)
        else:
            mixed.replays += 1
            if not mixed.watched:
                mixed.gradient_arrives(self._autograd)
        return list(features)

    def _follow(self, call: Call, segments: Sequence[Segment]) -> None:
        """Make sure that the place, if its gradient needs that, runs again in backward and is known there."""
        # of segments in each other the graph has the outermost one's node only
        node = next((segment.node for segment in reversed(segments) if segment.node is not None), None)
        if node is not None:
            self._autograd.after_backward(node, Replayed(call.mixed))
        call.mixed.recomputed |= bool(segments)
        lost = not segments and call.gradients and not self._autograd.grad_enabled()
        call.mixed.unseen |= lost or not all(segment.whole for segment in segments)

    def _carry_features(self, tree: Any, call: Call, inputs: Sequence[Any] = ()) -> None:
        """Have what was mixed carry its pass, and be at hand where the model may return nothing to be watched."""
        self._carry(tree, call.mixed, inputs, call.nodes)
        if call.target is not None:
            own = (x for x in self._framework.tensors([tree]) if all(x is not other for other in inputs))
            call.features = list(filter(self._autograd.wants_gradient, own))

    def _carry(self, tree: Any, mixed: Pass, inputs: Sequence[Any], nodes: Sequence[Any] = ()) -> bool:
        """Have the tensors in a tree carry their pass."""
        tensors = self._framework.tensors([tree])
        mixed.untagged |= not any(map(self._autograd.wants_gradient, tensors))
        return self._autograd.tag(tensors, mixed, nodes, inputs)

    def _origins(self, trees: Sequence[Any]) -> list[Pass]:
        """The passes that decide on labels of what is in containers; nothing does where none could be mixed."""
        return causes(self._autograd.tagged(self._framework.tensors(trees))) if any_lives() else []

    def _mix(
        self, tree: Any, plan: MixPlan, mixed: Pass, batch_dim: int | None = None, part: int = 0
    ) -> tuple[Any, list[tuple[Lam, Sequence[int]]]]:
        self._framework.check_mixing()
        axis = self.batch_dim if batch_dim is None else batch_dim
        keep = self.keep if plan.place == INPUT else ()
        first = plan is mixed.plan
        partners = mixed.partners_of(self._framework) if first else self._framework.partners(plan.perm)
        apart = self._rows.mixed(plan.place or "", part, tree, plan.batch_size, axis, keep, mixed.masks)
        still = [*mixed.masks, *apart]
        return mix_tree(self._framework, tree, plan, partners, axis, self.channel_dim, keep, still)

    def _enter_masked(self, module: str, args: Any, kwargs: Any) -> Any:
        """A module that takes masks is called: the arguments to call it with; None: as they are."""
        mixed, call, *_ = self._current_plan()
        if mixed is None or mixed.plan is None:
            return None
        return self._padding.enter(module, mixed, call, args, kwargs)

    def _leave_masked(self, module: str, output: Any) -> None:
        """A module that takes masks has run."""
        call = running(self._session)
        if call is not None and call.united_in == module:
            self._padding.leave(call, output)
