"""Every pair policy is a permutation that keeps its promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixlayers import Apart, Mixup, Near, OneOf
from mixlayers._pairs import draw_pairs, inverse
from mixlayers._repeats import repeat_order

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32)


def rng(seed):
    return np.random.default_rng(seed)


@given(
    sizes,
    seeds,
    st.sampled_from(["random", "derangement", "different_class", "same_class"]),
    st.integers(1, 5),
)
def test_every_policy_gives_a_permutation(size, seed, pairs, classes):
    labels = rng(seed).integers(classes, size=size)
    perm = draw_pairs(rng(seed), size, pairs, labels)
    assert perm.dtype == np.int64
    assert sorted(perm) == list(range(size))
    assert (perm[inverse(perm)] == np.arange(size)).all()


@given(sizes, seeds)
def test_a_derangement_pairs_nobody_with_itself(size, seed):
    perm = draw_pairs(rng(seed), size, "derangement")
    assert size == 1 or (perm != np.arange(size)).all()


@given(sizes, seeds)
def test_mutual_partners_share_each_other(size, seed):
    perm = draw_pairs(rng(seed), size, mutual=True)
    assert (perm[perm] == np.arange(size)).all()
    assert (perm == np.arange(size)).sum() == size % 2


@given(sizes, seeds, st.integers(1, 6))
def test_different_class_leaves_as_few_same_class_pairs_as_the_labels_allow(size, seed, classes):
    labels = rng(seed).integers(classes, size=size)
    perm = draw_pairs(rng(seed + 1), size, "different_class", labels)
    unavoidable = max(0, 2 * np.bincount(labels).max() - size)
    assert (labels[perm] == labels).sum() == unavoidable


@given(sizes, seeds, st.integers(1, 6))
def test_same_class_keeps_the_label(size, seed, classes):
    labels = rng(seed).integers(classes, size=size)
    perm = draw_pairs(rng(seed), size, "same_class", labels)
    assert (labels[perm] == labels).all()


def test_random_pairs_are_uniform():
    counts = np.zeros((4, 4))
    generator = rng(0)
    for _ in range(6000):
        counts[np.arange(4), draw_pairs(generator, 4)] += 1
    assert np.abs(counts / 6000 - 1 / 4).max() < 0.03


def test_different_class_pairs_reach_every_other_sample():
    labels, generator = np.array([0, 0, 1, 1, 2, 2]), rng(0)
    met = {
        (i, j) for _ in range(400) for i, j in enumerate(draw_pairs(generator, 6, "different_class", labels))
    }
    assert met == {(i, j) for i in range(6) for j in range(6) if labels[i] != labels[j]}


def test_a_class_policy_without_labels_says_how_to_give_them():
    with pytest.raises(ValueError, match="target=labels"):
        draw_pairs(rng(0), 4, "same_class")
    with pytest.raises(ValueError, match=r"shape \(4,\), got shape \(3,\)"):
        draw_pairs(rng(0), 4, "same_class", np.zeros(3, dtype=np.int64))


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
    found, published = distances(256, 2, 0.12, batches=12)
    assert (found**2).sum(1).mean() == pytest.approx(published.mean(), rel=0.05)
    assert found.std(0) == pytest.approx([1.0, 1.0], abs=0.08)


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


@given(sizes, seeds, st.integers(1, 12))
def test_partners_apart_are_as_far_as_the_batch_allows(size, seed, distance):
    perm, own = draw_pairs(rng(seed), size, Apart(distance)), np.arange(size)
    assert perm.dtype == np.int64 and sorted(perm) == list(range(size))
    can = (own >= distance) | (own + distance < size)
    assert (np.abs(perm - own)[can] >= distance).all()
    assert (perm[~can] == own[~can]).all()


def test_partners_apart_are_anybody_else():
    """Every partner that is far enough away comes about as often as the others."""
    perms = np.array([draw_pairs(rng(seed), 24, Apart(3)) for seed in range(4000)])
    counts = np.stack([np.bincount(column, minlength=24) for column in perms.T])
    far = np.abs(np.subtract.outer(np.arange(24), np.arange(24))) >= 3
    assert (counts[~far] == 0).all()
    middle = counts[8:16, :][far[8:16, :]] / 4000  # the ends have more partners to choose from
    assert middle.min() > 0.6 / 19 and middle.max() < 1.6 / 19


def test_the_copies_of_repeated_augmentation_never_meet():
    epoch = repeat_order(rng(0).permutation(100), repeats=3)
    method = Mixup(pairs=Apart(3))
    for step, images in enumerate(np.split(epoch[:96], 3)):
        perm = method.plan(step=step, batch_size=32).perm
        assert (images[perm] != images).all()


def test_apart_is_checked():
    assert eval(repr(Mixup(pairs=Apart(2)))) == Mixup(pairs=Apart(2))
    for distance in (0, -1, 1.5, "3"):
        with pytest.raises(ValueError, match="distance must be a whole number"):
            Apart(distance)
    with pytest.raises(ValueError, match="partners mutual, which pairs=Apart"):
        Mixup(lam_per="pair", pairs=Apart(2))
