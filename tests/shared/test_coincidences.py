"""Tensors that hold no samples, and are by chance as long as a batch; in every framework with hooks."""

from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixlayers import ManifoldMixup, MixingError, Mixup

SIZES = st.integers(2, 6)  # few, so that samples and points are often as many
STEPS = st.lists(st.tuples(SIZES, SIZES), min_size=2, max_size=4)
unhurried = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def points(fw, count):
    """Numbers for each point, one for all samples."""
    return fw.tensor(np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32))


def joined(fw, *given):
    features, beside = (
        given if len(given) > 1 else given[0]
    )  # a sequence hands on a tuple as one, or as several
    return fw.pooled(features * (beside * beside).reshape((1, 1, *beside.shape)))


def run(fw, steps, call, by_hand, *, told):
    """Each step is as by hand once the sizes have told what holds samples; one that tells it too late is refused."""
    for at, (samples, count) in enumerate(steps):
        rng = np.random.default_rng(samples + 10 * count)
        x = fw.tensor(rng.normal(size=(samples, 3, count, 2)).astype(np.float32))
        y = fw.tensor(rng.integers(3, size=samples))
        if at and not told and samples != count:
            with pytest.raises(
                MixingError, match="was mixed in a step before, where it was as long as the batch"
            ):
                call(x, y)
            return
        told |= samples != count
        output, target = call(x, y)
        fw.face.cross_entropy(output, target)
        if told:
            fw.close(output, by_hand(fw.by_hand(x, target.plan.perm, target.plan.lam, None)))


@pytest.mark.parametrize("trust", [False, True])
@unhurried
@given(steps=STEPS)
def test_what_a_layer_returns_beside_its_features_is_mixed_if_it_holds_samples(fw, steps, trust):
    """The audit tells by itself, whatever the sizes; a trusted layer it does not look at."""
    first = fw.function(lambda x: (x * 2, points(fw, x.shape[2])))
    fw.seed(0)
    head = fw.linear(3, 3)
    model = fw.sequential(first, fw.function(partial(joined, fw)), head)
    fw.face.wrap(model, ManifoldMixup(), layers="0", trust=trust)

    def by_hand(x):
        return head(joined(fw, x * 2, points(fw, x.shape[2])))

    run(fw, steps, lambda x, y: model(x, target=y), by_hand, told=not trust)


@pytest.mark.filterwarnings("ignore:'input' could not be checked")  # in a first batch of as many points
@unhurried
@given(steps=STEPS)
def test_an_entry_of_the_input_is_mixed_if_it_holds_samples(fw, steps):
    fw.seed(0)
    head = fw.linear(3, 3)
    model = fw.sequential(fw.function(lambda given: joined(fw, given["x"], given["points"])), head)
    fw.face.wrap(model, Mixup())

    def call(x, y):
        return model({"x": x, "points": points(fw, x.shape[2])}, target=y)

    run(fw, steps, call, lambda x: head(joined(fw, x, points(fw, x.shape[2]))), told=False)


def test_an_entry_that_keep_names_is_asked_nothing(fw):
    fw.seed(0)
    head = fw.linear(3, 3)
    model = fw.sequential(fw.function(lambda given: joined(fw, given["x"], given["points"])), head)
    fw.face.wrap(model, Mixup(), keep=["points"])

    def call(x, y):
        return model({"x": x, "points": points(fw, x.shape[2])}, target=y)

    run(fw, [(4, 4), (3, 4)], call, lambda x: head(joined(fw, x, points(fw, x.shape[2]))), told=True)


@unhurried
@given(samples=SIZES, heads=SIZES)
def test_a_list_of_containers_has_one_for_each_sample(fw, samples, heads):
    """Heads, which are a tuple, are mixed each in itself also where they are as many as the samples."""
    x = fw.tensor(np.zeros((samples, 3), np.float32))
    labels = [{"y": fw.tensor(np.arange(samples) + 10.0 * head)} for head in range(heads)]
    method = Mixup(pairs="derangement")
    _, target = fw.face.mix(x, tuple(labels), method, step=0)
    for head, partner in enumerate(target.partner):
        assert fw.numpy(partner["y"]).tolist() == (target.plan.perm + 10.0 * head).tolist()
    if heads != samples:
        with pytest.raises(
            ValueError, match=f"one for each sample, got {heads} for {samples} samples.*tuple"
        ):
            fw.face.mix(x, labels, method, step=0)
        return
    _, target = fw.face.mix(x, labels, method, step=0)
    assert [fw.numpy(item["y"])[0] for item in target.partner] == (10.0 * target.plan.perm).tolist()


@unhurried
@given(samples=SIZES)
def test_a_list_of_tensors_and_nothing_is_refused_where_it_may_be_both(fw, samples):
    x = fw.tensor(np.zeros((samples, 3), np.float32))
    labels = [fw.tensor(np.arange(samples) * 1.0), None]
    if samples == 2:
        with pytest.raises(
            ValueError, match="a list of 2 labels of 2 rows each may have one for each sample"
        ):
            fw.face.mix(x, labels, Mixup(), step=0)
        return
    _, target = fw.face.mix(x, labels, Mixup(), step=0)
    assert fw.numpy(target.partner[0]).tolist() == target.plan.perm.tolist() and target.partner[1] is None


@pytest.mark.parametrize("alone", [True, False])
def test_what_a_process_sees_makes_it_run_the_model_more_often_where_it_is_alone(fw, alone, monkeypatch):
    """Others, whose batches are of other shapes, would wait for it in a forward that they do not have."""
    monkeypatch.setattr(fw.face.Mixer, "_alone", lambda _: alone)
    sizes = []

    def first(x):
        sizes.append(len(x))
        return x * 2, points(fw, len(x))

    features = fw.function(lambda *given: fw.pooled(given[0] if len(given) > 1 else given[0][0]))
    model = fw.sequential(fw.function(first), features, fw.linear(3, 3))
    fw.face.wrap(model, ManifoldMixup(), layers="0")
    x = np.random.default_rng(0).normal(size=(8, 3, 5, 2)).astype(np.float32)
    model(fw.tensor(x), target=fw.tensor(np.arange(8) % 3))
    assert {*sizes} == ({4, 6, 8} if alone else {4, 8})
