"""Random programs of forwards, losses and backward passes, in every framework, against mixing by hand.

`make fuzz N=100000` runs many more: see fuzz.py.
"""

import pytest
from fuzz import FRAMEWORKS, framework, may_refuse, run
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from programs_draw import METHODS, PLACES
from world import Difference, Over, World

from mixlayers import CutMix, ManifoldMixup, MixingError, PatchUp
from mixlayers._layer_hooks import Acting, LayerHooks
from mixlayers._mixer import BaseMixer
from mixlayers._target import MixedTarget

BUDGET = settings(
    max_examples=250,
    stateful_step_count=14,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SCALES = st.sampled_from([1.0, 2.0, 3.0])
SOME = st.integers(0, 7)


def machine(name):
    """The state machine of a framework."""
    fw, parts = framework(name)

    class Programs(RuleBasedStateMachine):
        @initialize(data=st.data())
        def begin(self, data):
            method = data.draw(st.sampled_from(METHODS))
            implicit = data.draw(st.booleans())
            self.over = False
            self.kinds = st.sampled_from(["implicit"] if implicit else ["target", "scope", "plain"])
            self.whole = data.draw(st.sampled_from(list(parts.wholes))) if implicit else "direct"
            self.world = World(
                fw,
                parts,
                method,
                data.draw(st.sampled_from(PLACES)) if method.hidden else ["input"],
                isinstance(method, CutMix | PatchUp) or data.draw(st.booleans()),
                data.draw(st.sampled_from(list(parts.bodies))),
                implicit,
                self.whole,
            )

        def act(self, name, *arguments):
            if self.over:
                return
            try:
                getattr(self.world, name)(*arguments)
            except Over:
                self.over = True
            except (MixingError, ValueError, RuntimeError, OSError) as error:
                if not may_refuse(self.world, name, error):
                    raise
                self.over = True

        @rule(data=st.data(), scale=SCALES)
        def forward(self, data, scale):
            kind, whole = data.draw(self.kinds), self.whole
            if parts.together and kind != "target":
                whole = data.draw(st.sampled_from(list(parts.wholes)))
            self.act("forward", scale, kind, whole)

        @rule(at=SOME, change=st.sampled_from(["same", "scaled", "sliced"]))
        def loss(self, at, change):
            self.act("loss", at, change)

        @rule(count=st.integers(1, 3), retain=st.booleans())
        def backward(self, count, retain):
            self.act("backward", count, retain)

        @rule(
            data=st.data(),
            scale=SCALES,
            how=st.sampled_from(["in_a_thread", "nested", "raising", "together"]),
        )
        def forward_otherwise(self, data, scale, how):
            kind = data.draw(self.kinds)
            more = {"nested": (data.draw(st.booleans()),), "together": (data.draw(st.integers(2, 3)),)}.get(
                how, ()
            )
            self.act(how, scale, *((*more, kind) if how == "together" else (kind, *more)))

        @rule(scale=SCALES, how=st.sampled_from(["untrained", "silent", "others"]))
        def forward_unmixed(self, scale, how):
            self.act(how, scale)

        @rule(scale=SCALES, gradients=st.booleans())
        def evaluate(self, scale, gradients):
            self.act("evaluate", scale, gradients)

        @rule(at=SOME, how=st.sampled_from(["chained", "detached", "unused", "penalty", "look"]))
        def output(self, at, how):
            self.act(how, at)

        @rule(at=SOME, other=SOME)
        def joint(self, at, other):
            self.act("joint", at, other)

        @rule()
        def rewrap(self):
            self.act("rewrap")

        def teardown(self):
            if hasattr(self, "world"):
                self.world.afterwards()

    return Programs


@pytest.mark.filterwarnings("ignore")  # of the frameworks' recomputation
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_programs_are_right_or_refused(name):
    run_state_machine_as_test(machine(name), settings=BUDGET)


def plain_always(monkeypatch):
    monkeypatch.setattr(BaseMixer, "target_for", lambda self, target, output=None: MixedTarget(target))


def last_forward(monkeypatch):
    """As the first version did: the last forward's plan, for any output."""
    right = BaseMixer.target_for
    monkeypatch.setattr(BaseMixer, "target_for", lambda self, target, output=None: right(self, target))


def no_recomputation(monkeypatch):
    right = LayerHooks.acting_at

    def acting_at(self, place):
        acting = right(self, place)
        return Acting(None, again=True) if acting.again else acting

    monkeypatch.setattr(LayerHooks, "acting_at", acting_at)


FAULTS = {
    plain_always: [("forward", (1.0, "implicit")), ("loss", (0, "same"))],
    last_forward: [("forward", (1.0, "implicit")), ("forward", (2.0, "implicit")), ("loss", (0, "same"))],
    no_recomputation: [("forward", (1.0, "implicit")), ("loss", (0, "same")), ("backward", (1, False))],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_judge_sees_a_planted_fault(monkeypatch, name, fault):
    fw, parts = framework(name)
    how = list(parts.bodies)[-1]
    world = {"method": ManifoldMixup(), "places": ["a"], "conv": False, "how": how, "implicit": True}
    assert run(fw, parts, world, FAULTS[fault]) is False
    fault(monkeypatch)
    with pytest.raises((Difference, MixingError)):
        run(fw, parts, world, FAULTS[fault])
