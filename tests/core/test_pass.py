"""The states of a forward, without any framework: the table of docs/how_it_works.md."""

import copy
import gc
import pickle
import sys
import threading
import weakref

import pytest

from mixlayers import ManifoldMixup, MixingError, Mixup
from mixlayers._core.model.autograd import Backward
from mixlayers._core.model.passes import causes, living, running
from mixlayers._core.model.session import Session
from tests.support.passes_made import MODEL, SHARES, call_of, clean, left, planned, session, use


class Graph:
    """A framework's graph whose running backward pass is for a given purpose."""

    def __init__(self, purpose):
        self.purpose = purpose

    def parameters(self, model):
        return [model]

    def backward(self, parameters):
        assert parameters == [MODEL]
        return self.purpose


def test_the_way_of_a_mixed_forward():
    call = call_of(planned())
    assert call.mixed.mixes and call.mixed.s is None and not call.mixed_already
    call.mark_mixed("layer", SHARES)
    assert call.mixed_already and call.mixed.s == 0.25 and call.mixed.shares == SHARES
    call.check_mixed()
    assert not call.mixed.used
    use(call.mixed)
    assert call.mixed.used


def test_a_share_of_tokens_is_known_when_the_model_has_returned():
    call = call_of(planned(session(by_tokens=True)))
    call.mark_mixed("layer", SHARES)
    assert call.mixed.s is None and call.mixed.shares == SHARES


def test_a_place_is_mixed_once_and_must_be():
    call = call_of(planned())
    with pytest.raises(MixingError, match=r"'layer' did not run in this forward.*; a hint"):
        call.check_mixed("; a hint")
    with pytest.raises(MixingError, match="no floating-point tensor with 4 samples"):
        call.mark_mixed("layer", [])
    call.mark_mixed("layer", SHARES)
    with pytest.raises(MixingError, match="'layer' ran twice"):
        call.mark_mixed("layer", SHARES)


def test_a_forward_that_runs_again_mixes_once_more_and_leaves_its_pass_alone():
    mixed = left()
    again = call_of(clean(mixed.session))
    again.begin_recompute(mixed)
    again.mark_mixed("layer", [(0.5, (4, 3))])
    assert again.mixed is mixed and mixed.s == 0.25 and mixed.shares == SHARES
    with pytest.raises(MixingError, match="'layer' ran twice"):
        again.mark_mixed("layer", SHARES)


def test_a_forward_that_is_not_to_be_mixed_only_returns():
    call = call_of(clean())
    call.check_mixed()
    call.mixed.gradient_arrives(Graph(Backward.TRAINING))
    assert not call.mixed.mixes and call.mixed.s == 0.0


def test_a_step_that_the_method_leaves_clean_need_not_mix():
    call = call_of(planned(session(Mixup(prob=1e-9))))
    call.check_mixed()
    call.mixed.gradient_arrives(Graph(Backward.TRAINING))
    assert not call.mixed.mixes and call.mixed.s == 0.0


@pytest.mark.parametrize("purpose", Backward)
def test_what_a_gradient_is_for_decides_when_the_target_must_be_used(purpose):
    mixed = left()
    if purpose is Backward.TRAINING:
        with pytest.raises(MixingError, match="mixed at 'layer', but no loss used the mixed target"):
            mixed.gradient_arrives(Graph(purpose))
    else:
        mixed.gradient_arrives(Graph(purpose))
    assert mixed.session.expected == ([mixed] if purpose is Backward.PARAMETERS else [])
    use(mixed)
    mixed.gradient_arrives(Graph(purpose))
    mixed.session.check_expected()


def test_a_use_that_is_expected_is_asked_for_once_and_in_its_own_thread():
    mixed = left()
    mixed.session.expect_use(mixed)
    mixed.session.expect_use(mixed)
    asked = []

    def elsewhere():
        mixed.session.check_expected()
        asked.extend(mixed.session.expected)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert mixed.session.expected == asked == [mixed]
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        mixed.session.check_expected()
    mixed.session.check_expected()


def test_what_is_expected_of_a_thread_that_ended_is_asked_for_in_another():
    found = []

    def train():
        found.append(left())
        found[0].session.expect_use(found[0])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        found[0].session.check_expected()


def test_use_of_what_came_of_it_is_its_use():
    first, second = left(), left()
    first.users.append(second)
    assert not first.used
    use(second)
    assert first.used


def test_a_recomputation_needs_its_hooks():
    mixed = left()
    mixed.recomputed = True
    use(mixed)
    mixed.gradient_arrives(Graph(Backward.TRAINING))
    mixed.session.attached = False
    with pytest.raises(MixingError, match="unwrapped after a mixed forward"):
        mixed.gradient_arrives(Graph(Backward.OTHERS))


def test_running_forwards_are_a_stack_of_each_thread():
    one, other = session(), session()
    first, foreign, inner = call_of(clean(one)), call_of(clean(other)), call_of(clean(one))
    for call in (first, foreign, inner):
        call.frame = sys._getframe()
    seen = []
    for call in (first, foreign, inner):
        call.open()
    try:
        assert running(one) is inner and running(other) is foreign
        thread = threading.Thread(target=lambda: seen.append(running(one)))
        thread.start()
        thread.join()
        inner.close()
        assert running(one) is first
    finally:
        for call in (first, foreign, inner):
            call.close()
    assert seen == [None] and running(one) is None and running(other) is None


def test_a_forward_that_an_interrupt_left_on_the_stack_is_closed():
    of = session()
    outer, left_behind = call_of(clean(of)), call_of(clean(of))  # whose function has returned
    outer.frame = sys._getframe()
    outer.open()
    left_behind.open()
    try:
        assert running(of) is outer
    finally:
        outer.close()
    assert running(of) is None


def test_causes_are_the_mixed_passes_behind_a_clean_one():
    first, second, follower, foreign = left(), left(), clean(), clean()
    assert causes([follower]) == [follower]
    follower.sources = [first, foreign]
    second.sources = [first]
    assert causes([follower]) == [first, foreign]
    assert causes([second, follower, second]) == [second, first, foreign]


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


def test_copies_of_a_pass_are_none():
    mixed = left()
    assert copy.deepcopy([mixed]) == [None] and pickle.loads(pickle.dumps([mixed])) == [None]


def test_a_pass_goes_with_who_carries_it():
    mixed = left()
    watched = weakref.ref(mixed)
    assert mixed in living()
    del mixed
    gc.collect()
    assert watched() is None


def test_a_session_goes_on_from_a_former_versions_state():
    of = session(channel_dim=-1)
    of.load_state_dict({"step": 7})
    assert of.draw(4).step == 7 and of.step == 8
    twin = pickle.loads(pickle.dumps(Session(ManifoldMixup(), 0, int, channel_dim=-1)))
    assert twin.step == 0 and twin.attached and twin.channel_dim == -1
