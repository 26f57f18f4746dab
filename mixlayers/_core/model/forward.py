"""One forward after another: what a mixer does when its model's hooks call it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from weakref import ref

from mixlayers._core.audit.stage import AUDITING, LABELS
from mixlayers._core.batch.arguments import as_call, by_name
from mixlayers._core.batch.mix import batch_size, check_length, host_labels, no_float_input, partner_and_share
from mixlayers._core.errors import MixingError, refuse
from mixlayers._core.labels.labels import one_hot
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.autograd import Segment
from mixlayers._core.model.history import History
from mixlayers._core.model.judge import Judge
from mixlayers._core.model.layer_hooks import LayerHooks, Module
from mixlayers._core.model.passes import Call, Pass, caller, causes, innermost, inside, running
from mixlayers._core.model.recompute import note_call, original
from mixlayers._core.model.scope import scope_of
from mixlayers._core.plan.plan import INPUT, MixPlan

PATIENCE: Final = 10
"""Forwards with gradients after which somebody who never mixes is told."""


class ForwardHooks(LayerHooks[Module]):
    """The part of a mixer that the model's own hooks call."""

    history: History
    _judge: Judge
    _names: Sequence[str]  # of the arguments that the model takes by position
    _implicit: bool  # whether every training forward mixes
    _entered = False  # whether the model has run
    _unmixed = 0  # forwards with gradients so far, none of which was to be mixed

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
        top, segments = running(self._session), self._autograd.segments(gradients=True)
        sources = self._origins((*args, *kwargs.values()))
        sources = sources if any(source.mixes for source in sources) else []
        if not (top or segments or sources or self._asked(model, kwargs)):
            self._skip(model)
            return args, kwargs
        gradients, frame = self._autograd.grad_enabled(), caller(self._autograd.between)
        call = Call(Pass(self._session, ref(model)), top, segments, frame, gradients)
        call.open()
        self._framework.check_forward(model)
        if "target" in kwargs:
            kwargs = dict(kwargs)
            call.target, call.hands_out = self._target(kwargs.pop("target")), True
        within = inside(top, segments)
        call.nodes = [segment.node for segment in within if segment.node is not None]
        of = original(self._session, top, within)
        note_call(self._session, top, within, of or call.mixed)
        if of is not None:
            call.begin_recompute(of)
            of.gradient_arrives(self._autograd)
        else:
            call.mixed.sources, call.mixed.recomputed = sources, bool(segments)
            self._begin(call, within, model, args, kwargs)
        plan = None if call.mixed.plan is None else call.mixed.plan.at(INPUT)
        return (args, kwargs) if plan is None else self._mix_input(call, plan, args, kwargs)

    def _mix_input(self, call: Call, plan: MixPlan, args: Any, kwargs: Any) -> tuple[Any, Any]:
        inputs = {name: value for name, value in kwargs.items() if name not in LABELS}
        features = by_name(self._names, *self._padding.without_masks(args, inputs))
        mixed, shares = self._mix(features, plan, call.mixed)
        if not shares:
            raise ValueError(no_float_input(self._framework, (args, inputs)))
        call.mark_mixed(INPUT, shares)
        self._carry_features(mixed, call, self._framework.tensors((args, kwargs)))
        rest, named = as_call(mixed, len(args))
        return tuple(old if x is None else x for x, old in zip(rest, args, strict=True)), {**kwargs, **named}

    def _asked(self, model: Module, kwargs: Any) -> bool:
        """Whether a forward may be one that is to be mixed."""
        if "target" in kwargs or scope_of(self._session) is not None:
            return True
        return (self._implicit or not self.method.mixes_labels) and self._training(model)

    def _skip(self, model: Module) -> None:
        """A forward that has nothing to do with mixing begins: no call is kept of it."""
        self._session.check_expected()
        self._session.last = None
        if self._unmixed <= PATIENCE and self._autograd.grad_enabled():
            training = self._training(model)
            self._tell_of_no_mixing(asked=self._implicit and not training, training=training)

    def _begin(self, call: Call, within: Sequence[Segment], model: Module, args: Any, kwargs: Any) -> None:
        """Decide whether a new forward is to be mixed, and draw its plan."""
        top, mixed = call.top, call.mixed
        scope = scope_of(self._session)
        scope = scope if scope is not None and scope.around is top else None
        target = call.target if scope is None else scope.target
        asked = target is not None
        mixes = (
            self._training(model)
            and (call.gradients or _runs_again(call.segments if asked else within, model, asked=asked))
            and not any(segment.again for segment in within)  # else it was not called here, or another's was
        )
        if scope is not None:
            if call.target is not None:
                raise MixingError(
                    "the target was given twice, by `with mixer(labels):` and as target=: give it once."
                )
            scope.enter_forward(mixes=mixes)
            call.target = target if mixes or not scope.taken else None
        if top is None:
            self._session.check_expected()
        if mixes and (asked or self._implicit or not self.method.mixes_labels):
            if top is not None and top.mixed.plan is not None:
                refuse(
                    "the model was called inside its own mixed forward, in training mode, so that its features would "
                    "be mixed twice",
                    "call it there in eval mode or under no_grad, or wrap the module inside that is called once",
                )
            self._draw(mixed, model, args, kwargs, target)
            self._unmixed = PATIENCE + 1
            foreign = any(other.mixes and other.plan is not mixed.plan for other in mixed.sources)
            if foreign and self.method.mixes_labels:  # also where chance leaves this step clean
                refuse(
                    "the model's input comes from a mixed forward, and would be mixed once more, by another plan",
                    "let both share one: `with mixer.same_plan():`; or call one of them in eval mode or under no_grad",
                )
        elif call.gradients:
            self._tell_of_no_mixing(asked=asked, training=mixes)
        for source in mixed.sources:
            source.users += [mixed] if source.plan is mixed.plan or not mixed.mixes else []

    def _draw(self, mixed: Pass, model: Module, args: Any, kwargs: Any, target: MixedTarget | None) -> None:
        self._framework.check_mixing()
        size = batch_size(self._framework, (args, kwargs), self.batch_dim)
        labels, near = None, None
        if target is not None:
            check_length(self._framework, target.y, size)
            labels, near = host_labels(self._framework, self.method, target.y)
        if "length" in self.method.near:
            near = {**(near or {}), "length": self._padding.lengths(args, kwargs)}
        if not self._judge.settled:
            known = self._session.places
            places = self._judge.places(model, known, args, kwargs)
            if known is None:
                self._attach(model, places)
        self._judge.again(model, args, kwargs)
        self._padding.warn_of_unnamed(name for name, value in kwargs.items() if value is not None)
        mixed.follow(self._session.draw(size, labels, near))

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
        call = running(self._session)
        if call is None:
            # it was not to be mixed, but a loss of it and of a mixed one would be
            if self._autograd.grad_enabled():
                found = self._mixed_inside(output)
                if len(found) < 2:
                    self._carry(output, [*found, self._session.clean][0], self._framework.tensors(inputs))
            return output
        given = self._framework.tensors(inputs)
        call.check_mixed(self._not_run_hint())
        if call.again is not None:
            self._carry(output, call.mixed, given)
        else:
            output = self._finish(call, output, given)
        if call.target is None:
            return output
        self._resolve(call.target, _only(causes([call.mixed])))
        return (output, call.target) if call.hands_out else output

    def _finish(self, call: Call, output: Any, given: Sequence[Any]) -> Any:
        """A forward is over, for the first time: its share is known, and its output carries its pass."""
        mixed, plan = call.mixed, call.mixed.plan
        if plan is not None:
            self._judge.speak()
            output = self._judge.guard(mixed, output)
            self.history._add(plan, plan.label_share(mixed.shares) if mixed.shares else 0.0)
            by_tokens = self._padding.token_share(call) if plan.place is not None else None
            mixed.s = mixed.s if by_tokens is None else by_tokens
        if call.target is not None:
            mixed.users.append(call.target)
        self._session.last = mixed
        inner = [] if mixed.mixes else [nested for nested in mixed.calls if nested.mixes]
        if inner and (found := self._mixed_inside(output)):
            mixed.sources, inner = [*mixed.sources, *found], []
        if plan is not None or call.gradients or mixed.sources or call.nodes:
            carried = self._carry(output, mixed, given, call.nodes)
            for nested in inner if call.nodes else ():  # nothing tells, there, whether it had a part
                self._autograd.tag(self._framework.tensors([output]), nested, call.nodes, given)
            if mixed.mixes:
                self._watch(output, call, carried)
        return output

    def _watch(self, output: Any, call: Call, carried: bool) -> None:
        """Have the target's use checked: when the output's gradient arrives, or else at the next forward."""
        if not carried and call.target is None:
            refuse(
                "the mixed forward returned no tensor of its own, so that no loss could tell that it was mixed",
                "return what the loss takes; or use model(x, target=labels) or `with mixer(labels):`",
            )
        tensors = list(filter(self._autograd.wants_gradient, self._framework.tensors([output])))
        nodes = call.nodes or ([] if call.top is None else call.top.nodes)
        for x in tensors or call.features:
            self._autograd.watch(x, call.mixed)
        for node in nodes:
            self._autograd.watch_node(node, call.mixed)
        call.mixed.watched = bool(tensors or call.features or nodes)
        if not (tensors or nodes):
            self._session.expect_use(call.mixed)

    def _close(self) -> None:
        """The forward is over, also if it raised."""
        call = None if AUDITING.get() else innermost(self._session)
        if call is None:
            return
        error = sys.exc_info()[1]
        if isinstance(error, KeyError) and error.args == ("target",) and call.hands_out:
            error.args = (
                "target: model(x, target=labels) takes it out of the call, so that forward(**kwargs) does not get it; "
                "give that argument another name, or wrap the module inside that computes the output",
            )
        call.close()

    def _mixed_inside(self, output: Any) -> list[Pass]:
        """The mixed forwards inside one that is not mixed itself, whose outputs have a part in its own."""
        return [found for found in self._origins([output]) if found.mixes]

    def _target(self, y: Any) -> MixedTarget:
        """Labels of a forward that has not told the share yet."""
        return MixedTarget(y, None, None, None, partial(one_hot, self._framework))

    def _resolve(self, target: MixedTarget, mixed: Pass) -> MixedTarget:
        """Fill in a target, now that the forward has told the share."""
        partner, s = target.y, 0.0
        if mixed.mixes and mixed.s is not None:
            partners = mixed.partners_of(self._framework)
            partner, s = partner_and_share(self._framework, target.y, mixed.s, partners)
        target.resolve(partner, s, mixed.plan)
        target.record_features(self._framework, mixed.shares, mixed.session.channel_dim)
        return target


def _only(found: Sequence[Pass]) -> Pass:
    """The pass whose labels a forward has: its own, or, of one that is not mixed, its inputs'."""
    if any(other.plan is not found[0].plan for other in found):
        refuse(
            f"the model's input comes from {len(found)} forwards that were not mixed alike, so that no target fits",
            "call the model on each; or let them share a plan, `with mixer.same_plan():`",
        )
    return found[0]


def _runs_again(segments: Sequence[Segment], model: Any, *, asked: bool) -> bool:
    """Whether a call without gradients will run again with them, and not as part of something else unasked."""
    first = next((segment for segment in segments if segment.node is not None), None)
    return first is not None and (asked or first.direct is model)
