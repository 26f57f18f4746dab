"""Whose layers run in a recomputed segment, without any framework."""

import gc

import pytest

from mixlayers import MixingError
from mixlayers._core.model.autograd import Segment, search
from mixlayers._core.model.passes import inside
from mixlayers._core.model.recompute import Note, Replayed, note_call, note_loss, original, owner
from tests.support.passes_made import call_of, clean, left, session


def segment(again=False, notebook=None, **options):
    return Segment({} if notebook is None else notebook, again, **options)


def test_layers_belong_to_the_running_forward_or_to_the_one_that_runs_again():
    of = session()
    first, second, part = call_of(left(of)), call_of(left(of)), segment()
    assert owner(of, first, []) == (first.mixed, False) and owner(of, None, []) == (None, False)
    assert owner(of, first, [part]) == (first.mixed, False)
    again = segment(again=True, notebook=part.notebook)
    assert owner(of, None, [again]) == (first.mixed, True)
    assert owner(of, second, [again]) == (first.mixed, True)
    inner = segment()
    assert owner(of, None, [inner, again]) == (first.mixed, True)
    assert owner(of, None, [segment(again=True, notebook=inner.notebook)]) == (first.mixed, True)
    with pytest.raises(MixingError, match="layers of two forwards"):
        owner(of, second, [part])


def test_what_was_not_seen_in_the_forward_is_clean_unless_something_was_missed():
    of = session()
    assert owner(of, None, [segment(again=True)]) == (None, True)
    lost, other = left(of), left()
    lost.unseen = other.unseen = True
    with pytest.raises(MixingError, match="could not follow in the forward"):
        owner(of, None, [segment(again=True)])
    del lost
    gc.collect()
    assert owner(of, None, [segment(again=True)]) == (None, True)


def test_only_segments_inside_a_forward_count():
    outer, inner = segment(), segment()
    call = call_of(left(), segments=[outer])
    assert inside(call, [inner, outer]) == [inner] and inside(None, [inner, outer]) == [inner, outer]


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
    outer, nested = call_of(left(of)), [clean(of) for _ in range(2)]
    for called in nested:
        note_call(of, outer, [], called)
    assert original(of, outer, []) is None  # a new one, while the forward runs for the first time
    again = call_of(clean(of))
    again.begin_recompute(outer.mixed)
    note_call(of, again, [], nested[0])
    assert outer.mixed.calls == nested
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


def test_a_search_ends_at_nodes_that_carry_a_pass_and_does_not_look_at_leaves():
    before = {"head": ["x", "carrying", None], "x": ["leaf", "carrying"], "carrying": ["behind"], 1.5: []}
    looked = []

    def look(node):
        looked.append(node)
        return ["pass"] if node == "carrying" else None, [(each, 0) for each in before[node]]

    before["x"].append(1.5)
    before["leaf"] = []
    found, met, leaves = search(["head"], look, float)
    assert found == ["pass"] and met == {"head", "x", "carrying", "leaf"} and leaves == {1.5}
    assert sorted(looked) == ["carrying", "head", "leaf", "x"]
