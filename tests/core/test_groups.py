"""Partners from another part of the batch: Halves, and LISA's Across."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlayers import Across, Halves, ManifoldMixup, Mixup
from mixlayers._core.plan.pairs import draw_pairs
from tests.support.mixed_arrays import mixed


@given(st.integers(1, 15), st.booleans(), st.integers(0, 1000))
def test_halves_meet_each_other(size, shuffle, seed):
    perm = draw_pairs(np.random.default_rng(seed), size, Halves(shuffle))
    half = size // 2
    assert sorted(perm) == list(range(size))
    assert all((i < half) != (perm[i] < half) for i in [*range(half), *range(size - half, size)])
    assert size % 2 == 0 or perm[half] == half
    if not shuffle:
        assert (
            np.array_equal(perm[:half], np.arange(size - half, size))
            and (perm[perm] == np.arange(size)).all()
        )


def most_pairs(labels, domains, pairs):
    """How many samples may have the partner they want, by trying every permutation."""
    size = len(labels)
    ok = (labels[:, None] == labels) == (pairs.label == "same")
    ok &= (domains[:, None] == domains) == (pairs.domain == "same")
    best = 0
    for perm in permutations(range(size)):
        if all(ok[i, p] or i == p for i, p in enumerate(perm)):
            best = max(best, sum(ok[i, p] for i, p in enumerate(perm)))
    return best, ok


@pytest.mark.parametrize("pairs", [Across(), Across("same", "different")], ids=repr)
def test_across_pairs_as_many_as_the_batch_allows_and_leaves_the_rest_alone(pairs):
    for seed in range(25):
        rng = np.random.default_rng(seed)
        labels, domains = rng.integers(2, size=6), rng.integers(3, size=6)
        most, ok = most_pairs(labels, domains, pairs)
        perm = draw_pairs(rng, 6, pairs, labels, {"domain": domains})
        assert sorted(perm) == list(range(6))
        assert all(ok[i, p] or i == p for i, p in enumerate(perm))
        assert sum(ok[i, p] for i, p in enumerate(perm)) == most


def test_across_reads_labels_and_domains_from_the_target():
    x, y, d = np.random.default_rng(0).normal(size=(8, 4)), np.arange(8) % 2, np.arange(8) // 4
    blended, target = mixed(x, {"label": y, "domain": d}, Mixup(2.0, pairs=Across()), step=0)
    perm = target.plan.perm
    assert (y[perm] == y).all() and (d[perm] != d).all()
    np.testing.assert_allclose(blended, target.plan.lam * x + (1 - target.plan.lam) * x[perm])
    assert np.array_equal(target.partner["label"], y[perm])
    with pytest.raises(ValueError, match=r'give the target as \{"label": y, "domain": d\}, got ndarray'):
        mixed(x, y, Mixup(2.0, pairs=Across()), step=0)
    assert Mixup(pairs=Across()).needs_labels and ManifoldMixup(pairs=Halves()).needs_labels is False
