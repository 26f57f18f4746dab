"""Every pair policy is a permutation that keeps its promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlayers._pairs import draw_pairs, inverse

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
