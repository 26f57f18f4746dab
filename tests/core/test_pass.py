"""The states of a forward, without any framework: the table of docs/how_it_works.md."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

from mixlayers import ManifoldMixup, MixedTarget, MixingError, Mixup
from mixlayers._core.model.autograd import Backward, Segment
from mixlayers._core.model.passes import Pass, State, causes, close_pass, open_pass, running
from mixlayers._core.model.recompute import Note, Replayed, inside, note_call, note_loss, original, owner
from mixlayers._core.model.session import Session

SHARES = [(0.25, (4, 3))]


class Model:
    """Something that a weak reference can be made to."""


MODEL = Model()


class Graph:
    """A framework's graph whose running backward pass is for a given purpose."""

    def __init__(self, purpose):
        self.purpose = purpose

    def parameters(self, model):
        return [model]

    def backward(self, parameters):
        assert parameters == [MODEL]
        return self.purpose


def session(method=None):
    made = Session(method or ManifoldMixup(), 0, lambda: 0)
    made.places = ("layer",)
    return made


def planned(of=None):
    """A pass that is to be mixed."""
    mixed = Pass(of or session(), MODEL)
    mixed.plan = mixed.session.draw(4)
    mixed.target = MixedTarget(np.arange(4))
    return mixed


def left(of=None):
    mixed = planned(of)
    mixed.fire("layer", SHARES)
    mixed.leave()
    return mixed


def segment(again=False, notebook=None, **options):
    return Segment({} if notebook is None else notebook, again, **options)


def test_the_way_of_a_mixed_forward():
    mixed = planned()
    assert mixed.state is State.OPEN and mixed.mixes
    mixed.fire("layer", SHARES)
    assert mixed.state is State.FIRED
    mixed.leave()
    assert mixed.state is State.LEFT and mixed.s == 0.25
    mixed.target.used = True
    assert mixed.state is State.USED


def test_a_place_is_mixed_once_and_must_be():
    mixed = planned()
    with pytest.raises(MixingError, match=r"'layer' did not run in this forward.*; a hint"):
        mixed.leave("; a hint")
    with pytest.raises(MixingError, match="no floating-point tensor with 4 samples"):
        mixed.fire("layer", [])
    mixed.fire("layer", SHARES)
    with pytest.raises(MixingError, match="'layer' ran twice"):
        mixed.fire("layer", SHARES)
    mixed.leave()
    with pytest.raises(MixingError, match="'layer' ran twice"):
        mixed.fire("layer", SHARES)


def test_a_forward_that_is_not_to_be_mixed_only_leaves():
    clean = Pass(session(), MODEL)
    clean.leave()
    clean.gradient_arrives(Graph(Backward.TRAINING))
    assert clean.state is State.LEFT and not clean.mixes and clean.s == 0.0


def test_a_step_that_the_method_leaves_clean_need_not_fire():
    clean = planned(session(Mixup(prob=1e-9)))
    clean.leave()
    clean.gradient_arrives(Graph(Backward.TRAINING))
    assert not clean.mixes


@pytest.mark.parametrize("purpose", Backward)
def test_what_a_gradient_is_for_decides_when_the_target_must_be_used(purpose):
    mixed = left()
    if purpose is Backward.TRAINING:
        with pytest.raises(MixingError, match="mixed at 'layer', but no loss used the mixed target"):
            mixed.gradient_arrives(Graph(purpose))
    else:
        mixed.gradient_arrives(Graph(purpose))
    owed = mixed.session.owed
    assert owed == ([mixed] if purpose is Backward.PARAMETERS else [])
    mixed.target.used = True
    mixed.gradient_arrives(Graph(purpose))
    mixed.session.settle()


def test_what_is_owed_is_asked_for_once_and_in_its_own_thread():
    mixed = left()
    mixed.session.owe(mixed)
    mixed.session.owe(mixed)
    asked = []

    def elsewhere():
        mixed.session.settle()
        asked.extend(mixed.session.owed)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert mixed.session.owed == asked == [mixed]
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        mixed.session.settle()
    mixed.session.settle()


def test_what_a_thread_owed_when_it_ended_is_asked_for_in_another():
    found = []

    def train():
        found.append(left())
        found[0].session.owe(found[0])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        found[0].session.settle()


def test_use_of_what_came_of_it_is_its_use():
    first, second = left(), left()
    first.heirs.append(second)
    second.target.used = True
    assert first.used and first.state is State.USED


def test_a_recomputation_needs_its_hooks():
    mixed = left()
    mixed.recomputed, mixed.target.used = True, True
    mixed.gradient_arrives(Graph(Backward.TRAINING))
    mixed.session.attached = False
    with pytest.raises(MixingError, match="unwrapped after a mixed forward"):
        mixed.gradient_arrives(Graph(Backward.OTHERS))


def test_running_forwards_are_a_stack_of_each_thread():
    one, other = session(), session()
    first, inner, foreign = Pass(one, MODEL), Pass(one, MODEL), Pass(other, MODEL)
    seen = []
    for each in (first, foreign, inner):
        open_pass(each)
    try:
        assert running(one) is inner and running(other) is foreign
        thread = threading.Thread(target=lambda: seen.append(running(one)))
        thread.start()
        thread.join()
        close_pass(inner)
        assert running(one) is first
    finally:
        for each in (first, foreign, inner):
            close_pass(each)
    assert seen == [None] and running(one) is None and running(other) is None
    assert first.frame is None and first.around == [] and first.nodes == []


def test_causes_are_the_mixed_passes_behind_a_clean_one():
    first, second, clean, foreign = left(), left(), Pass(session(), MODEL), Pass(session(), MODEL)
    assert causes([clean]) == [clean]
    clean.sources = [first, foreign]
    second.sources = [first]
    assert causes([clean]) == [first, foreign]
    assert causes([second, clean, second]) == [second, first, foreign]


def test_forwards_in_a_block_share_the_first_plan():
    of = session()
    with of.same_plan():
        first = of.draw(4)
        with of.same_plan():
            assert of.draw(4) is first
        assert of.draw(4) is first and of.step == 1
        with pytest.raises(MixingError, match="began with 4 samples, and a forward inside it has 3"):
            of.draw(3)
        other = session()
        assert other.draw(3) is not first and other.step == 1
    assert of.draw(4) is not first and of.step == 2


def test_layers_belong_to_the_running_forward_or_to_the_one_that_runs_again():
    of = session()
    first, second, part = left(of), left(of), segment()
    assert owner(of, first, []) == (first, False)
    assert owner(of, first, [part]) == (first, False)
    again = segment(again=True, notebook=part.notebook)
    assert owner(of, None, [again]) == (first, True)
    assert owner(of, second, [again]) == (first, True)
    inner = segment()
    assert owner(of, None, [inner, again]) == (first, True)
    assert owner(of, None, [segment(again=True, notebook=inner.notebook)]) == (first, True)
    with pytest.raises(MixingError, match="layers of two forwards"):
        owner(of, second, [part])


def test_what_was_not_seen_in_the_forward_is_clean_unless_something_was_missed():
    of = session()
    assert owner(of, None, [segment(again=True)]) == (None, True)
    lost = left(of)
    of.unseen.add(lost)
    with pytest.raises(MixingError, match="could not follow in the forward"):
        owner(of, None, [segment(again=True)])
    del lost
    gc.collect()
    assert owner(of, None, [segment(again=True)]) == (None, True)


def test_only_segments_inside_a_forward_count():
    mixed, outer, inner = planned(), segment(), segment()
    mixed.around = [outer.notebook]
    assert inside(mixed, [inner, outer]) == [inner] and inside(None, [inner, outer]) == [inner, outer]


def test_calls_of_the_model_in_a_segment_run_again_in_their_order():
    of = session()
    part, calls = segment(), [left(of) for _ in range(3)]
    for called in calls:
        note_call(of, None, [part], called)
    seen = [original(of, None, [segment(again=True, notebook=part.notebook, run=run)]) for run in (1, 1, 2)]
    assert seen == [calls[0], calls[1], calls[0]]  # a backward pass that went on, and another one
    assert original(of, None, [segment(again=True)]) is None


def test_calls_inside_a_forward_run_again_with_it():
    of = session()
    outer, nested = left(of), [Pass(of, MODEL) for _ in range(2)]
    for called in nested:
        note_call(of, outer, [], called)
    again = Pass(of, MODEL)
    again.run_again(outer)
    assert again.origin is outer and again.plan is outer.plan
    assert [original(of, again, []) for _ in range(3)] == [*nested, None]


def test_a_criterion_that_runs_again_finds_what_it_found():
    of = session()
    part, found = segment(), [left(of)]
    assert note_loss(of, [part], found) is found
    again = segment(again=True, notebook=part.notebook, run=1)
    assert note_loss(of, [again], []) is found
    assert note_loss(of, [segment(again=True)], []) == [] == note_loss(of, [], [])


def test_a_note_knows_only_what_it_saw():
    assert Note(None).calls.replay(1) is None


def test_a_node_that_did_not_run_the_place_again_is_refused():
    mixed = left()
    check = Replayed(mixed)
    with pytest.raises(MixingError, match="does not run it again in backward"):
        check()
    mixed.replays += 2
    check()
    with pytest.raises(MixingError, match="does not run it again in backward"):
        check()


def test_copies_of_a_pass_are_none():
    mixed = left()
    assert copy.deepcopy([mixed]) == [None] and pickle.loads(pickle.dumps([mixed])) == [None]


def test_a_pass_goes_with_who_carries_it():
    mixed = left()
    watched = weakref.ref(mixed)
    del mixed
    assert watched() is None


def test_a_session_goes_on_from_a_former_versions_state():
    of = session()
    of.load_state_dict({"step": 7})
    assert of.draw(4).step == 7 and of.state_dict() == {"step": 8}
    twin = pickle.loads(pickle.dumps(Session(ManifoldMixup(), 0, int)))
    assert twin.step == 0 and twin.attached
