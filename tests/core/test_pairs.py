"""Every pair policy is a permutation that keeps its promise."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixlayers import Apart, Mixup
from mixlayers._core.batch.sampler import repeat_order
from mixlayers._core.labels.labels import classes_of
from mixlayers._core.plan.pairs import draw_pairs, inverse

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


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 1, 1, 2, 2],
        [0, 1, 2],
        [0, 1, 2, 3, 4],
        [0, 0, 0, 1, 1, 2],
        [0, 0, 0, 0, 1, 2],
        [0, 0, 0, 1, 1, 1],
    ],
    ids=str,
)
def test_different_class_pairs_are_uniform(labels):
    """All permutations with the fewest pairs of one class, which are counted; the last but one has a surplus."""
    labels, size = np.array(labels), len(labels)
    alike = {perm: (labels[list(perm)] == labels).sum() for perm in permutations(range(size))}
    fewest = [perm for perm, number in alike.items() if number == min(alike.values())]
    drawn = Counter(
        tuple(draw_pairs(rng(seed), size, "different_class", labels).tolist())
        for seed in range(10 * len(fewest))
    )
    assert set(drawn) <= set(fewest)
    assert stats.chisquare([drawn[perm] for perm in fewest]).pvalue > 1e-3


def test_classes_of_unequal_sizes_meet_as_often_as_under_the_uniform_law():
    """Against a long chain of exchanges of two and of three, one at a time."""
    labels = np.repeat(np.arange(5), [20, 12, 8, 6, 2])
    generator, perm = rng(5), draw_pairs(rng(0), 48, "different_class", labels)
    met, expected = np.zeros((5, 5)), np.zeros((5, 5))
    for turn in range(80000):
        some = generator.choice(48, 2 + turn % 2, replace=False)
        moved = np.roll(perm[some], 1)
        if (labels[some] != labels[moved]).all():
            perm[some] = moved
        if turn % 40 == 0:
            np.add.at(expected, (labels, labels[perm]), 1 / 2000)
    for seed in range(600):
        np.add.at(met, (labels, labels[draw_pairs(rng(seed), 48, "different_class", labels)]), 1 / 600)
    off = ~np.eye(5, dtype=bool)
    assert np.abs(met - expected)[off].max() < 0.25
    assert (np.abs(met - expected) / np.maximum(expected, 1e-9))[off & (expected > 0.5)].max() < 0.15


def test_same_class_pairs_are_uniform():
    labels = np.array([3, 1, 3, 1, 3])
    drawn = Counter(tuple(draw_pairs(rng(s), 5, "same_class", labels).tolist()) for s in range(600))
    assert len(drawn) == 12 and stats.chisquare(list(drawn.values())).pvalue > 1e-3


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
    assert (
        np.diff(perms, axis=1) == 1
    ).mean() < 2 / 24  # neighbours' partners are no neighbours, as in a turn


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


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_samples_of_several_labels_are_of_one_class_where_all_are_the_same(columns, dtype):
    labels = rng(columns).integers(2, size=(12, columns)).astype(dtype)
    alike = (labels[:, None] == labels).all(2)
    found = classes_of(labels)
    np.testing.assert_array_equal(found[:, None] == found, alike)
    assert found.dtype == np.int64 and not alike.all() and alike.sum() > 12
