"""One forward after another: what a mixer does when its model's hooks call it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from mixlayers._audit import Audit
from mixlayers._batch import (
    batch_size,
    check_length,
    host_labels,
    mix_tree,
    no_float_input,
    partner_and_share,
)
from mixlayers._errors import MixingError
from mixlayers._framework import Framework
from mixlayers._history import History
from mixlayers._lam import Lam
from mixlayers._layers import INPUT, auto_layers, warn_untrue
from mixlayers._method import Method
from mixlayers._padding import Padding
from mixlayers._plan import MixPlan
from mixlayers._scope import Scope
from mixlayers._session import Session
from mixlayers._target import MixedTarget
from mixlayers._tree import leaves

_LABEL_NAMES = frozenset({"label", "labels", "target", "targets", "y"})

Module = TypeVar("Module")


class Steps(ABC, Generic[Module]):
    """The part of a mixer that hooks call, and what it asks of a backend."""

    framework: ClassVar[Framework]
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
        """Have `_enter` called before each forward of the model and `_leave` after it, also if it raises."""

    @abstractmethod
    def _hook_layer(self, layer: Module, name: str) -> None:
        """Have `_at` called with each output of the layer."""

    def _hook_mask(self, layer: Module, name: str, places: Mapping[str, int]) -> None:
        """Have the padding's `before` and `after` called around each call of a module that takes masks."""
        raise NotImplementedError

    @abstractmethod
    def _hook_gradient(self, x: Any, target: MixedTarget) -> None:
        """Have the session's `backward_begins(target)` called when the gradient of x arrives."""

    def _not_run_hint(self) -> str:
        """What, in this framework, may keep the planned layer from being seen though it ran."""
        return ""

    @abstractmethod
    def _audit(self, model: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Audit:
        """Audit one call of the model."""

    _session: Session
    batch_dim: int
    channel_dim: int
    _padding: Padding
    _rule: str
    _implicit: bool
    _audited: bool

    def _start_afresh(self) -> None:
        self.history = History()
        self.scope: Scope | None = None
        self._given: tuple[Any] | None = None  # what came as target= in the running forward
        self._moved: tuple[MixPlan, Any] | None = None
        self._busy = False
        self._entered = False  # whether the model has run

    def _partners(self, plan: MixPlan) -> Any:
        if self._moved is None or self._moved[0] is not plan:
            self._moved = plan, self.framework.partners(plan.perm)
        return self._moved[1]

    def _partner_and_share(self, target: Any, s: Lam) -> tuple[Any, Any]:
        """`target[perm]` and the share, on the target's device, for the last forward's plan."""
        plan = self._session.plan
        if plan is None or not plan.mixes:
            return target, 0.0
        return partner_and_share(self.framework, target, s, self._partners(plan))

    def _mixed_target(self, y: Any, s: Lam, plan: MixPlan | None) -> MixedTarget:
        target = MixedTarget(y, *self._partner_and_share(y, s), plan, self.framework.one_hot)
        target.lie(self.framework, self._session.shares, self.channel_dim)
        return target

    def _audited_places(self, places: tuple[str, ...] | None, run: Callable[[], Audit]) -> tuple[str, ...]:
        """Choose the places, or check those that were named; once, with three samples in eval mode."""
        self._busy = True
        try:
            report = run()
            chosen = auto_layers(report, self._rule) if places is None else places
        except Exception as error:
            if places is None:
                raise ValueError(f"layers={self._rule!r}: {error}") from error
            return places  # they were named: every step still checks what it mixes
        finally:
            self._busy = False
        if self.method.has_partners:  # elsewhere labels follow nothing
            warn_untrue(report, chosen)
        return chosen

    def _attach(self, model: Module, places: tuple[str, ...] | None) -> None:
        layers = self._named_layers(model)
        for place in places or ():
            if place != INPUT:
                self._hook_layer(layers[place], place)
        self._session.places = places

    def _enter(self, model: Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if self._busy:
            return args, kwargs
        self.framework.check_forward(model)
        self._entered = True
        self._padding.begin()
        self._given = None
        if "target" in kwargs:
            kwargs = dict(kwargs)
            self._given = (kwargs.pop("target"),)
        if self.framework.in_backward():
            plan = self._session.begin_again(self._segment_plan())
        else:
            plan = self._begin(model, args, kwargs)
            self._note_plan(plan)
        if plan is None or plan.place != INPUT:
            return args, kwargs
        inputs = {name: value for name, value in kwargs.items() if name not in _LABEL_NAMES}
        (rest, mixed), shares = self._mix(self._padding.apart(args, inputs), plan)
        if not shares:
            raise ValueError(no_float_input(self.framework, (args, inputs)))
        self._session.mixed(INPUT, shares)
        at = self._padding.model_takes.values()
        return tuple(args[i] if i in at else x for i, x in enumerate(rest)), {**kwargs, **mixed}

    def _begin(self, model: Module, args: Any, kwargs: Any) -> MixPlan | None:
        """Draw the plan of a forward that is to be mixed."""
        if self.scope is not None:
            self.scope.enter_forward(self._given)
        given = (self.scope.target.y,) if self.scope is not None else self._given
        asked = given is not None or self._implicit or not self.method.has_partners
        if not (asked and self._training(model) and self.framework.grad_enabled()):
            self._session.begin_clean()
            return None
        self.framework.check_mixing()
        size = batch_size(self.framework, (args, kwargs), self.batch_dim)
        if given is not None:
            check_length(self.framework, given[0], size)
        labels, near = None, None
        method = self._session.method
        if given is not None:
            labels, near = host_labels(self.framework, method, given[0])
        if "length" in method.near:
            near = {**(near or {}), "length": self._padding.lengths(args, kwargs)}
        self._padding.warn_of_unnamed(name for name, value in kwargs.items() if value is not None)
        if not self._audited:
            known = self._session.places
            places = self._audited_places(known, partial(self._audit, model, args, kwargs))
            self._audited = True
            if known is None:
                self._attach(model, places)
        return self._session.begin(size, labels, near)

    def _at(self, place: str, output: Any) -> Any:
        mixed = self._at_parts(place, (output, self.batch_dim))
        return None if mixed is None else mixed[0]

    def _at_parts(self, place: str, *parts: tuple[Any, int]) -> list[Any] | None:
        """Mix what a layer returned, part by part, each with its own batch axis; None: nothing to mix."""
        if self._busy:
            return None
        again = self.framework.in_backward()
        if not again:
            self._note_plan(self._session.plan if self._session.running else None)
        plan = self._session.plan_at(place, in_backward=again, own=self._segment_plan() if again else None)
        if plan is None:
            return None
        mixed, shares = zip(*(self._mix(part, plan, batch_dim) for part, batch_dim in parts), strict=True)
        self._session.mixed(place, [share for part in shares for share in part])
        return list(mixed)

    def acting_plan(self) -> MixPlan | None:
        """The plan of the forward that a call of a layer belongs to. For the padding."""
        if self._busy or self._session.idle:
            return None
        again = self.framework.in_backward()
        plan = self._session.acting(in_backward=again, own=self._segment_plan() if again else None)
        if not again:
            self._note_plan(plan)
        return plan

    def _note_plan(self, plan: MixPlan | None) -> None:
        """Let the recomputed segments around this call know which forward they belong to."""
        for notes in self.framework.segments():
            if notes.setdefault(self._session, (plan,)) != (plan,):
                raise MixingError(
                    "one recomputed segment runs the model in two forwards, so its recomputation could not tell "
                    "their plans apart: recompute each forward, or parts of the model, in a segment of its own."
                )

    def _segment_plan(self) -> tuple[MixPlan | None] | None:
        """In backward: the plan of the forward that the running segment belongs to; None if it is not known."""
        segments = self.framework.segments()
        known: tuple[MixPlan | None] | None = None
        for notes in segments:
            known = known or notes.get(self._session)
        for notes in segments:  # segments within segments come to life here
            if known is not None:
                notes.setdefault(self._session, known)
        return known

    def _mix(
        self, tree: Any, plan: MixPlan, batch_dim: int | None = None
    ) -> tuple[Any, list[tuple[Lam, Sequence[int]]]]:
        self.framework.check_mixing()
        axis = self.batch_dim if batch_dim is None else batch_dim
        return mix_tree(self.framework, tree, plan, self._partners(plan), axis, self.channel_dim)

    def _leave(self, output: Any) -> Any:
        if self._busy:
            return output
        given, self._given = self._given, None
        if output is None:  # the forward raised
            self._session.forget()
            return output
        s, plan = self._session.end(self._not_run_hint()), self._session.plan
        again = self.framework.in_backward()
        if plan is not None and not again:
            self.history.add(plan, s)
        if plan is not None and plan.place is not None:
            by_tokens = self._padding.end(plan)
            s = self._session.s = s if by_tokens is None else by_tokens
        # a forward that is recomputed in backward has settled its scope's target before
        scope = None if again else self.scope
        if scope is not None:
            target = scope.target
            target.settle(*self._partner_and_share(target.y, s), plan)
            target.lie(self.framework, self._session.shares, self.channel_dim)
        elif given is not None:
            target = self._mixed_target(given[0], s, plan)
        else:  # the labels come later, with the loss
            target = MixedTarget(None, None, s, plan)
        if plan is not None and plan.place is not None and not again:
            self._watch(output, target)
        return (output, target) if given is not None else output

    def _watch(self, output: Any, target: MixedTarget) -> None:
        """Have the target's use checked: when the output's gradient arrives, or else at the next forward."""
        tensors = [
            x for x in leaves(output) if self.framework.is_tensor(x) and self.framework.wants_gradient(x)
        ]
        for x in tensors:
            self._hook_gradient(x, target)
        self._session.owe(target, seen_in_backward=bool(tensors))
