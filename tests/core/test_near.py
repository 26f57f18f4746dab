"""Near: partners of near labels or lengths follow their law."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixlayers import Mixup, Near, OneOf
from mixlayers._core.plan.near import exchange_near
from mixlayers._core.plan.pairs import draw_pairs

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32)


def rng(seed):
    return np.random.default_rng(seed)


def test_a_batch_whose_samples_are_far_from_each_other_says_that_it_is_not_mixed():
    values = rng(0).normal(size=(256, 8))
    with pytest.warns(UserWarning, match=r"left \d+ of 256 samples with themselves.*Raise the bandwidth"):
        draw_pairs(rng(0), 256, Near("label", 0.5), near={"label": values})
    with pytest.warns(UserWarning, match="hardly any two are within a bandwidth"):
        draw_pairs(rng(0), 256, Near("length", 0.01), near={"length": np.arange(256)})


@given(sizes, seeds, st.integers(0, 3), st.floats(0.01, 10.0))
def test_near_pairs_are_permutations(size, seed, columns, bandwidth):
    values = rng(seed).normal(size=(size, columns) if columns else size)
    perm = draw_pairs(rng(seed), size, Near("label", bandwidth), near={"label": values})
    assert perm.dtype == np.int64
    assert sorted(perm) == list(range(size))


def distances(size, columns, bandwidth, batches=60):
    """From samples well inside dense values to their partners, in bandwidths; and C-Mixup's mean square here."""
    found, published = [], []
    for seed in range(batches):
        values = rng(seed).random((size, columns))
        perm = draw_pairs(rng(seed + 999), size, Near("label", bandwidth), near={"label": values})
        inside = (np.abs(values - 0.5) < 0.5 - 3 * bandwidth).all(1)
        found.append((values[perm] - values)[inside] / bandwidth)
        squares = ((values[:, None] - values) ** 2).sum(2) / bandwidth**2
        kernel = np.exp(-squares / 2)
        published.append((kernel * squares).sum(1)[inside] / kernel.sum(1)[inside])
    return np.concatenate(found), np.concatenate(published)


def test_near_partners_are_normally_distant_where_values_are_dense():
    found, published = distances(256, 1, 0.05)
    apart = found.ravel()
    assert (
        stats.kstest(apart[::7], "norm").pvalue > 0.01
    )  # every seventh: partners in a batch depend on each other
    assert apart.std() == pytest.approx(1.0, abs=0.03)
    assert (apart**2).mean() == pytest.approx(published.mean(), rel=0.05)  # of C-Mixup's kernel


def test_near_partners_in_the_plane_are_as_distant_as_c_mixups():
    found, published = distances(256, 2, 0.12)
    assert (found**2).sum(1).mean() == pytest.approx(published.mean(), rel=0.1)  # its standard error is 0.03
    assert found.std(0) == pytest.approx([1.0, 1.0], abs=0.08)


@pytest.mark.parametrize("columns", [2, 5])
def test_near_permutations_of_a_few_samples_are_drawn_by_the_law(columns):
    """All 24 permutations of four samples, each with its probability."""
    values = rng(columns).normal(size=(4, columns))
    every = list(permutations(range(4)))
    law = np.array([np.exp(-((values[list(perm)] - values) ** 2).sum() / 2) for perm in every])
    drawn = Counter(
        tuple(draw_pairs(rng(seed), 4, Near("label", 1.0), near={"label": values}).tolist())
        for seed in range(400)
    )
    often = law / law.sum() * 400 > 5
    seen, expected = np.array([drawn[perm] for perm in every]), law / law.sum() * 400
    kept, wanted = (
        np.append(seen[often], seen[~often].sum()),
        np.append(expected[often], expected[~often].sum()),
    )
    assert stats.chisquare(kept, wanted).pvalue > 1e-3


@pytest.mark.parametrize(
    ("size", "columns", "spread"), [(150, 3, 0.9), (100, 2, 9.0), (90, 5, 1.0), (90, 8, 0.6)], ids=str
)
def test_near_partners_in_space_are_as_distant_as_after_a_long_chain(size, columns, spread):
    """Of exchanges of any two samples, one at a time, by Metropolis's rule: dense, sparse and in many numbers."""
    values, generator = rng(0).normal(size=(size, columns)) * spread, rng(1)
    perm, squares, own = np.arange(size), [], []
    i, j = generator.integers(size, size=(2, 90000))
    for turn, (a, b, u) in enumerate(zip(i, j, generator.random(90000), strict=True)):
        rise = (values[a] - values[b]) @ (values[perm[a]] - values[perm[b]])
        if np.log(u) < -rise:
            perm[a], perm[b] = perm[b], perm[a]
        if turn >= 20000 and turn % 100 == 0:
            squares.append(((values[perm] - values) ** 2).sum(1).mean())
            own.append((perm == np.arange(size)).mean())
    drawn = [exchange_near(rng(seed), values) for seed in range(60)]
    found = [((values[perm] - values) ** 2).sum(1).mean() for perm in drawn]
    alone = [(perm == np.arange(size)).mean() for perm in drawn]
    assert np.mean(found) == pytest.approx(np.mean(squares), rel=0.1, abs=0.04)  # three errors of the sparse
    assert np.mean(alone) == pytest.approx(np.mean(own), abs=0.04)


@pytest.mark.parametrize("columns", [2, 5])
def test_a_sample_that_is_very_far_away_keeps_itself_and_changes_nobody(columns):
    """Farther than float32 tells distances, and than the curve's steps are fine."""
    values = rng(0).normal(size=(120, columns)) * 0.7
    far = np.vstack([values, np.full((1, columns), 1e9)])
    found, alone = [], []
    for seed in range(40):
        perm = exchange_near(rng(seed), far)
        assert perm[-1] == 120
        found.append(((far[perm] - far) ** 2).sum(1).sum() / 120)
        alone.append(((values[exchange_near(rng(seed), values)] - values) ** 2).sum(1).mean())
    assert np.mean(found) == pytest.approx(np.mean(alone), rel=0.15)


def test_a_narrow_bandwidth_pairs_everybody_with_themselves_and_a_wide_one_with_anybody():
    values = {"length": np.array([7, 2, 5, 3, 1])}
    assert (draw_pairs(rng(0), 5, Near("length", 0.01), near=values) == np.arange(5)).all()
    met = {
        (i, j)
        for seed in range(300)
        for i, j in enumerate(draw_pairs(rng(seed), 5, Near("length", 100.0), near=values))
    }
    assert len(met) == 25


def test_near_is_a_method_s_argument():
    method = Mixup(2.0, pairs=Near("label", 0.5))
    assert eval(repr(method)) == method
    assert method.needs_labels and not method.needs_classes
    assert not Mixup(pairs=Near("length", 3.0)).needs_labels
    assert OneOf({method: 1.0, Mixup(pairs=Near("length", 3.0)): 1.0}).near == {"label", "length"}
    plan = method.plan(step=3, batch_size=4, near={"label": np.array([0.0, 9.0, 5.0, 2.0])})
    assert (
        plan.perm == method.plan(step=3, batch_size=4, near={"label": [0, 9, 5, 2] * np.ones(4)}).perm
    ).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Near("class", 1.0), "by must be 'length' or 'label', got 'class'"),
        (lambda: Near("label", 0.0), "bandwidth must be > 0 and finite, got 0.0"),
        (lambda: Mixup(pairs="near"), "pairs must be one of"),
        (lambda: Mixup(pairs=Near("label", 1.0), lam_per="pair"), "partners mutual"),
        (
            lambda: Mixup(pairs=Near("label", 1.0)).plan(step=0, batch_size=3),
            "needs each sample's label.*target=",
        ),
        (
            lambda: Mixup(pairs=Near("length", 1.0)).plan(step=0, batch_size=3),
            "needs each sample's length.*mask=",
        ),
        (
            lambda: Mixup(pairs=Near("label", 1.0)).plan(step=0, batch_size=3, near={"label": np.zeros(2)}),
            r"shape \(3,\) or \(3, D\), got shape \(2,\)",
        ),
        (
            lambda: Mixup(pairs=Near("label", 1.0)).plan(
                step=0, batch_size=1, near={"label": np.array([np.nan])}
            ),
            "with nan or inf",
        ),
    ],
)
def test_what_near_cannot_do_it_says(make, says):
    with pytest.raises(ValueError, match=says):
        make()
