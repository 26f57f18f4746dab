"""One forward after another: what a mixer does when its model's hooks call it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from mixlayers._core.audit.stage import AUDITING, LABELS
from mixlayers._core.batch.mix import batch_size, check_length, host_labels, no_float_input, partner_and_share
from mixlayers._core.errors import refuse
from mixlayers._core.labels.labels import one_hot
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.autograd import Segment
from mixlayers._core.model.history import History
from mixlayers._core.model.layer_hooks import LayerHooks, Module, caller, on_stack
from mixlayers._core.model.passes import Pass, causes, close_pass, open_pass, running
from mixlayers._core.model.recompute import inside, note_call, original
from mixlayers._core.model.scope import scope_of
from mixlayers._core.plan.plan import INPUT

PATIENCE: Final = 10
"""Forwards with gradients after which somebody who never mixes is told."""


class ForwardHooks(LayerHooks[Module]):
    """The part of a mixer that the model's own hooks call."""

    def _start_afresh(self) -> None:
        self.history = History()
        self._entered = False  # whether the model has run
        self._unmixed = 0  # forwards with gradients so far, none of which was to be mixed

    def _mixed_target(self, y: Any, mixed: Pass) -> MixedTarget:
        target = MixedTarget(y, one_hot=partial(one_hot, self.framework))
        self._settle(target, mixed)
        return target

    def _settle(self, target: MixedTarget, mixed: Pass) -> None:
        """Fill in a target, now that the forward has told the share."""
        partner, s = target.y, 0.0
        if mixed.mixes:
            partner, s = partner_and_share(self.framework, target.y, mixed.s, self._partners(mixed))
        target.settle(partner, s, mixed.plan)
        target.lie(self.framework, mixed.shares, mixed.channel_dim)

    def _attach(self, model: Module, places: tuple[str, ...] | None) -> None:
        layers = self._named_layers(model)
        for place in places or ():
            if place != INPUT:
                self._hook_layer(layers[place], place)
        self._session.places = places

    def _enter(self, model: Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if AUDITING.get():
            return args, kwargs
        self._entered = True
        top = running(self._session)
        if top is not None and not on_stack(top.frame):  # a KeyboardInterrupt left it there
            close_pass(top)
            top = running(self._session)
        segments = self.autograd.segments(gradients=True)
        sources = causes(self.autograd.tagged(self.framework.tensors((*args, *kwargs.values()))))
        mixed_input = any(source.mixes for source in sources)
        if not (top or segments or mixed_input or self._asked(model, kwargs)):
            self._skip(model)
            return args, kwargs
        called = Pass(self._session, model, self.channel_dim)
        called.frame = caller(self.autograd.between)
        called.around = [segment.notebook for segment in segments]
        called.recomputed = bool(segments)
        called.gradients, called.sources = self.autograd.grad_enabled(), sources if mixed_input else []
        open_pass(called)
        self.framework.check_forward(model)
        if "target" in kwargs:
            kwargs = dict(kwargs)
            called.given = (kwargs.pop("target"),)
        within = inside(top, segments)
        called.nodes = [segment.node for segment in within if segment.node is not None]
        of = original(self._session, top, within)
        note_call(self._session, top, within, called if of is None else of)
        if of is None:
            self._begin(called, top, within, segments, model, args, kwargs)
        else:
            called.run_again(of)
            of.gradient_arrives(self.autograd)
        plan = None if called.plan is None else called.plan.at(INPUT)
        if plan is None:
            return args, kwargs
        inputs = {name: value for name, value in kwargs.items() if name not in LABELS}
        (rest, mixed), shares = self._mix(self._padding.apart(args, inputs), plan, called)
        if not shares:
            raise ValueError(no_float_input(self.framework, (args, inputs)))
        called.fire(INPUT, shares)
        given = self.framework.tensors((args, kwargs))
        self._carry((rest, mixed), called, given)
        self._keep((rest, mixed), called, given)
        at = self._padding.model_takes.values()
        return tuple(args[i] if i in at else x for i, x in enumerate(rest)), {**kwargs, **mixed}

    def _asked(self, model: Module, kwargs: Any) -> bool:
        """Whether a forward may be one that is to be mixed."""
        if "target" in kwargs or scope_of(self._session) is not None:
            return True
        return (self._implicit or not self.method.mixes_labels) and self._training(model)

    def _skip(self, model: Module) -> None:
        """A forward that has nothing to do with mixing begins: no pass is made for it."""
        self._session.settle()
        self._session.last = None
        if self._unmixed <= PATIENCE and self.autograd.grad_enabled():
            training = self._training(model)
            self._tell_of_no_mixing(asked=self._implicit and not training, training=training)

    def _begin(
        self,
        called: Pass,
        top: Pass | None,
        within: Sequence[Segment],
        segments: Sequence[Segment],
        model: Module,
        args: Any,
        kwargs: Any,
    ) -> None:
        """Decide whether a new forward is to be mixed, and draw its plan."""
        scope = scope_of(self._session)
        called.scope = scope if scope is not None and scope.around is top else None
        given = called.given if called.scope is None else (called.scope.target.y,)
        mixes = self._training(model) and (
            called.gradients
            or _runs_again(within if given is None else segments, model, explicit=given is not None)
        )
        if any(segment.again for segment in within):
            mixes = False  # the forward did not call the model here, or another mixer's did
        if called.scope is not None:
            called.scope.enter_forward(called.given, mixes=mixes)
        if top is None:
            self._session.settle()
        if mixes and (given is not None or self._implicit or not self.method.mixes_labels):
            if top is not None and top.plan is not None:
                refuse(
                    "the model was called inside its own mixed forward, in training mode, so that its features would "
                    "be mixed twice",
                    "call it there in eval mode or under no_grad, or wrap the module inside that is called once",
                )
            self._draw(called, model, args, kwargs, given)
            self._unmixed = PATIENCE + 1
            foreign = any(other.mixes and other.plan is not called.plan for other in called.sources)
            if foreign and self.method.mixes_labels:  # also where chance leaves this step clean
                refuse(
                    "the model's input comes from a mixed forward, and would be mixed once more, by another plan",
                    "let both share one: `with mixer.same_plan():`; or call one of them in eval mode or under no_grad",
                )
        elif called.gradients:
            self._tell_of_no_mixing(asked=given is not None, training=mixes)
        for source in called.sources:
            source.heirs += [called] if source.plan is called.plan or not called.mixes else []

    def _draw(self, called: Pass, model: Module, args: Any, kwargs: Any, given: tuple[Any] | None) -> None:
        self.framework.check_mixing()
        size = batch_size(self.framework, (args, kwargs), self.batch_dim)
        labels, near = None, None
        method = self._session.method
        if given is not None:
            check_length(self.framework, given[0], size)
            labels, near = host_labels(self.framework, method, given[0])
        if "length" in method.near:
            near = {**(near or {}), "length": self._padding.lengths(args, kwargs)}
        if not self._judge.settled:
            known = self._session.places
            places = self._judge.places(model, known, args, kwargs)
            if known is None:
                self._attach(model, places)
        self._judge.again(model, args, kwargs)
        self._padding.warn_of_unnamed(name for name, value in kwargs.items() if value is not None)
        called.plan = self._session.draw(size, labels, near)

    def _tell_of_no_mixing(self, *, asked: bool, training: bool) -> None:
        """A forward with gradients is not to be mixed: warn, once, if none ever is."""
        self._unmixed += self._unmixed < PATIENCE and (training or asked)
        if self._unmixed != PATIENCE:
            return
        self._unmixed += 1
        why = (
            "in eval mode, where nothing is mixed: call model.train() before training"
            if asked
            else "without a target: give it as model(x, target=labels), by `with mixer(labels):`, or use "
            "criterion = mixer.loss(...); or unwrap(model)"
        )
        warnings.warn(
            f"the wrapped model ran {PATIENCE} forwards with gradients and none was mixed; this one ran {why}.",
            stacklevel=2,
        )

    def _leave(self, inputs: tuple[Any, Any], output: Any) -> Any:
        """The model returned; hands out the target."""
        if AUDITING.get():
            return output
        called = running(self._session)
        if called is None:  # it was not to be mixed, but a loss of it and of a mixed one would
            if self.autograd.grad_enabled():
                inside = self._mixed_inside(output) if self._session.step else []
                if len(inside) < 2:
                    self._carry(output, [*inside, self._session.clean][0], self.framework.tensors(inputs))
            return output
        called.leave(self._not_run_hint())
        inside = [inner for inner in called.nested if inner.mixes and not called.mixes]
        if inside and (found := self._mixed_inside(output)):
            called.sources, inside = [*called.sources, *found], []
        given = self.framework.tensors(inputs)
        if called.of is not None:
            self._carry(output, called.of, given)
            return (
                output if called.given is None else (output, self._mixed_target(called.given[0], called.of))
            )
        plan = called.plan
        if plan is not None:
            self._judge.speak()
            output = self._judge.guard(called, output)
            self.history.add(plan, called.s)
        if plan is not None and plan.place is not None:
            by_tokens = self._padding.end(called)
            called.s = called.s if by_tokens is None else by_tokens
        if called.scope is not None and (plan is not None or not called.scope.taken):
            called.target = called.scope.target
            self._settle(called.target, _only(causes([called])))
        elif called.given is not None:
            called.target = self._mixed_target(called.given[0], _only(causes([called])))
        else:  # the labels come later, with the loss
            called.target = MixedTarget(None, None, called.s, plan)
        self._session.last = called
        if plan is not None or called.gradients or called.sources or called.nodes:
            carried = self._carry(output, called, given)
            for inner in (
                inside if called.nodes else ()
            ):  # without gradients nothing tells whether it had a part
                self.autograd.tag(self.framework.tensors([output]), inner, called.nodes, given)
            if called.mixes:
                self._watch(output, called, carried)
        return output if called.given is None else (output, called.target)

    def _watch(self, output: Any, mixed: Pass, carried: bool) -> None:
        """Have the target's use checked: when the output's gradient arrives, or else at the next forward."""
        if not carried and mixed.given is None and mixed.scope is None:
            refuse(
                "the mixed forward returned no tensor of its own, so that no loss could tell that it was mixed",
                "return what the loss takes; or use model(x, target=labels) or `with mixer(labels):`",
            )
        tensors = list(filter(self.autograd.wants_gradient, self.framework.tensors([output])))
        for x in tensors or mixed.features:
            self.autograd.watch(x, mixed)
        for node in mixed.nodes or mixed.outer:
            self.autograd.watch_node(node, mixed)
        mixed.watched = bool(tensors or mixed.features or mixed.nodes or mixed.outer)
        if not (tensors or mixed.nodes or mixed.outer):
            self._session.owe(mixed)

    def _close(self) -> None:
        """The forward is over, also if it raised."""
        called = None if AUDITING.get() else running(self._session)
        if called is None:
            return
        error = sys.exc_info()[1]
        if isinstance(error, KeyError) and error.args == ("target",) and called.given is not None:
            error.args = (
                "target: model(x, target=labels) takes it out of the call, so that forward(**kwargs) does not get it; "
                "give that argument another name, or wrap the module inside that computes the output",
            )
        close_pass(called)


def _only(found: Sequence[Pass]) -> Pass:
    """The pass whose labels a forward has: its own, or, of one that is not mixed, its inputs'."""
    if any(other.plan is not found[0].plan for other in found):
        refuse(
            f"the model's input comes from {len(found)} forwards that were not mixed alike, so that no target fits",
            "call the model on each; or let them share a plan, `with mixer.same_plan():`",
        )
    return found[0]


def _runs_again(segments: Sequence[Segment], model: Any, *, explicit: bool) -> bool:
    """Whether a call without gradients will run again with them, and not as part of something else unasked."""
    for segment in segments:
        if segment.node is not None:
            return explicit or segment.direct is model
    return False
