"""Random programs of forwards, losses and backward passes, in every framework, against mixing by hand.

`make fuzz N=100000` runs many more: see fuzz.py.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mixlayers._core.model.layer_hooks
from mixlayers import ManifoldMixup
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.forward import ForwardHooks
from mixlayers._core.model.layer_hooks import Current, LayerHooks
from mixlayers._core.model.mixer import BaseMixer
from mixlayers._core.model.passes import _RUNNING, Call, Pass, running
from mixlayers._core.model.scope import Scope
from mixlayers._core.model.session import Session
from tests.programs.fuzz import FRAMEWORKS, framework, run
from tests.programs.programs_draw import program_of
from tests.programs.world import World
from tests.programs.world_judging import Difference

BUDGET = settings(
    max_examples=250,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore")  # of the frameworks' recomputation
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_programs_are_right_or_refused(name):
    fw, parts = framework(name)

    @BUDGET
    @given(st.data())
    def judged(data):
        run(fw, parts, *program_of(lambda bound: data.draw(st.integers(0, bound - 1)), parts))

    judged()


FOUND = {
    "target= inside a plain forward, in a segment": (
        {"whole": 1},
        [
            ("calls", (1.0, "plain", "target", "end", True, True)),
            ("loss", (0, "same")),
            ("backward", (1, False)),
        ],
    ),
    "a mixed call inside a plain forward, fed on": (
        {},
        [("calls", (1.0, "plain", "target", "start", False, True)), ("chained", (0, "target", True))],
    ),
    "a metric before a scope's mixed forward": (
        {},
        [("scoped", (1.0, ("eval",), (), True, False)), ("unused", (0,))],
    ),
    "nothing returned, and a plain loss": ({}, [("silent", (1.0, "target", True)), ("unused", (0,))]),
    "nothing returned, recomputed and unwrapped": (
        {"how": (2, 0, 0)},
        [("silent", (1.0, "scope", False)), ("loss", (0, "same")), ("rewrap", ())],
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("found", FOUND)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_programs_found_stays_mended(name, found):
    settings, program = FOUND[found]
    fw, parts = framework(name)
    run(fw, parts, world_of(parts, {"implicit": False, **settings}), program)


def world_of(parts, settings):
    """Settings of a World, where recomputation is given as how often."""
    kinds = list(parts.kinds)[-1:]
    made = {"method": ManifoldMixup(), "places": ["a"], "implicit": True, "conv": False, "how": (0, 0, 0)}
    made |= settings
    made |= {"how": tuple(kinds * depth for depth in made["how"]), "whole": kinds * made.get("whole", 0)}
    if "second" in made:
        kept = {name: value for name, value in made.items() if name not in ("second", "conv")}
        made["second"] = {**kept, "method": ManifoldMixup(alpha=1.0), **settings["second"]}
    return made


# faults that are planted


def plain_always(patch):
    patch.setattr(BaseMixer, "target_for", lambda self, target, output=None: MixedTarget(target))


def last_forward(patch):
    """As the first version did: the last forward's plan, for any output."""
    right = BaseMixer.target_for
    patch.setattr(BaseMixer, "target_for", lambda self, target, output=None: right(self, target))


def clean_targets(patch):
    """What a scope or target= hands out, features being mixed."""

    def resolve(self, target, mixed):
        target.resolve(target.y, 0.0, None)
        return target

    patch.setattr(ForwardHooks, "_resolve", resolve)


def last_of_a_scope(patch):
    """A scope's target becomes that of any forward after the mixed one."""
    right = Scope.enter_forward

    def enter_forward(self, *, mixes):
        right(self, mixes=mixes)
        self.taken = False

    patch.setattr(Scope, "enter_forward", enter_forward)


def read_is_used(patch):
    """A metric before the mixed forward counts as the use of its target."""
    right = MixedTarget.resolve

    def resolve(self, partner, s, plan):
        used = getattr(self, "used", False)
        right(self, partner, s, plan)
        self.used = used

    patch.setattr(MixedTarget, "resolve", resolve)


def no_recomputation(patch):
    right = LayerHooks._current_plan_at

    def current_plan_at(self, place):
        current = right(self, place)
        return Current() if current.call is None else current

    patch.setattr(LayerHooks, "_current_plan_at", current_plan_at)


def inherited(patch):
    """A call of a net within its own forward is mixed as the forward is."""
    right = ForwardHooks._begin

    def begin(self, call, *args):
        right(self, call, *args)
        if call.top is not None and call.top.mixed.plan is not None:
            call.mixed.follow(call.top.mixed.plan)

    patch.setattr(ForwardHooks, "_begin", begin)


def anybody(patch):
    """A shared layer belongs to whichever net runs, and nobody looks whether it is mixed twice."""
    right = Call.mark_mixed

    def mark_mixed(self, place, shares):
        if not self.mixed_already:
            right(self, place, shares)

    patch.setattr(Call, "mark_mixed", mark_mixed)
    patch.setattr(
        mixlayers._core.model.layer_hooks,
        "running",
        lambda session: running(session) or next(iter(_RUNNING.get()), None),
    )


def unwatched(patch):
    """Nothing is kept of a forward that returns nothing."""
    patch.setattr(LayerHooks, "_carry_features", lambda self, *args: None)
    patch.setattr(Pass, "gradient_arrives", lambda self, autograd: None)
    patch.setattr(Session, "expect_use", lambda self, mixed: None)


def first_cause(patch):
    """An output comes from the first forward that is found."""
    right = BaseMixer._origins
    patch.setattr(BaseMixer, "_origins", lambda self, trees: right(self, trees)[:1])


def no_sources(patch):
    """A forward of mixed inputs is as clean as any."""
    right = ForwardHooks._begin

    def begin(self, call, *args):
        call.mixed.sources = []
        right(self, call, *args)

    patch.setattr(ForwardHooks, "_begin", begin)


FORWARD, SWITCH = ("forward", (1.0, "plain")), ("switch", ())
LOSS, BACKWARD = ("loss", (0, "same")), ("backward", (1, False))
SCOPE = ("forward", (1.0, "scope"))


def scoped(before=(), after=(), read=False, used=True):
    return ("scoped", (1.0, before, after, read, used))


EXPLICIT, TWO = {"implicit": False}, {"second": {}}
DEEP = {"how": (3, 0, 0)}
FAULTS = {
    "plain": (plain_always, {}, [FORWARD, LOSS]),
    "last": (last_forward, {}, [FORWARD, ("forward", (2.0, "plain")), LOSS]),
    "recomputed": (no_recomputation, {"how": (1, 0, 0)}, [FORWARD, LOSS, BACKWARD]),
    "recomputed three times": (no_recomputation, DEEP, [FORWARD, LOSS, BACKWARD]),
    "recomputed layer": (no_recomputation, {"how": (1, 2, 0)}, [FORWARD, LOSS, BACKWARD]),
    "an eval forward after": (last_of_a_scope, EXPLICIT, [scoped(after=("eval",)), LOSS]),
    "a no_grad forward after": (last_of_a_scope, EXPLICIT, [scoped(after=("no grad",)), LOSS]),
    "an eval forward before": (clean_targets, EXPLICIT, [scoped(before=("eval",)), LOSS]),
    "a foreign forward": (clean_targets, EXPLICIT, [scoped(("foreign",), ("foreign",)), LOSS]),
    "another's forward": (clean_targets, {**EXPLICIT, **TWO}, [scoped(("other",), ("other",)), LOSS]),
    "a metric before": (read_is_used, EXPLICIT, [scoped(("eval",), read=True), ("unused", (0,))]),
    "a second training forward": (last_of_a_scope, EXPLICIT, [scoped(after=("train",))]),
    "an eval self-call": (inherited, EXPLICIT, [("calls", (1.0, "target", "eval", "start", False, True))]),
    "a no_grad self-call": (inherited, EXPLICIT, [("calls", (1.0, "target", "no grad", "start", True, True))]),
    "a training self-call": (clean_targets, EXPLICIT, [("calls", (1.0, "scope", "train", "end", True, True)), LOSS]),
    "a mixed self-call": (clean_targets, EXPLICIT, [("calls", (1.0, "plain", "target", "end", True, True)), LOSS]),
    "a self-call with the loss": (plain_always, {}, [("calls", (1.0, "plain", "eval", "end", True, True)), LOSS]),
    "a self-call that trains in eval mode": (
        plain_always,
        {},
        [("calls", (1.0, "plain", "target", "end", True, True)), LOSS],
    ),
    "a self-call that is recomputed": (
        no_recomputation,
        DEEP,
        [("calls", (1.0, "plain", "eval no grad", "middle", False, True)), LOSS, BACKWARD],
    ),
    "nothing in a scope": (clean_targets, EXPLICIT, [("silent", (1.0, "scope", False)), LOSS]),
    "nothing with a target": (clean_targets, EXPLICIT, [("silent", (1.0, "target", False)), LOSS]),
    "nothing in a thread": (clean_targets, EXPLICIT, [("silent", (1.0, "scope", True)), LOSS]),
    "nothing, unused": (unwatched, EXPLICIT, [("silent", (1.0, "scope", True)), ("unused", (0,))]),
    "nothing, recomputed": (
        unwatched,
        {**EXPLICIT, "how": (1, 0, 0)},
        [("silent", (1.0, "scope", True)), ("unused", (0,))],
    ),
    "another's criterion": (last_forward, TWO, [FORWARD, SWITCH, ("forward", (2.0, "plain")), LOSS]),
    "two criteria": (plain_always, TWO, [FORWARD, SWITCH, FORWARD, LOSS, ("loss", (1, "same"))]),
    "two nets' sum": (first_cause, TWO, [FORWARD, SWITCH, FORWARD, ("joint", (0, 1))]),
    "one fed the other": (no_sources, TWO, [FORWARD, SWITCH, ("chained", (0, "plain", True))]),
    "one fed the other in eval mode": (
        plain_always,
        TWO,
        [FORWARD, SWITCH, ("chained", (0, "plain", False)), ("loss", (1, "same"))],
    ),
    "a shared layer": (
        anybody,
        {**EXPLICIT, "second": {"share": "a", "implicit": False}},
        [SCOPE, SWITCH, SCOPE, LOSS, ("loss", (1, "same")), ("backward", (2, False))],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_judge_sees_a_planted_fault(monkeypatch, name, fault):
    plant, settings, program = FAULTS[fault]
    fw, parts = framework(name)
    world = world_of(parts, settings)
    run(fw, parts, world, program)
    plant(monkeypatch)
    monkeypatch.setattr(World, "afterwards", lambda self: None)  # the program itself must see it
    with pytest.raises(Difference):
        run(fw, parts, world, program)
