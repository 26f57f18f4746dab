"""Geometry: masks of every shape, and the share that they really cover."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter
from scipy.stats import ks_2samp

from mixlayers import CutMix, Mixup
from mixlayers._core.plan.masks import (
    Blocks,
    Box,
    bernoulli,
    dilate,
    expected_portion,
    rate_for_portion,
    seed_rate,
)

spatials = st.lists(st.integers(1, 12), min_size=0, max_size=3).map(tuple)
seeds = st.integers(0, 2**32)


@given(st.integers(1, 4), spatials, st.integers(1, 9), seeds)
def test_dilation_is_bit_equal_to_a_max_filter(channels, spatial, block, seed):
    rng = np.random.default_rng(seed)
    sizes = tuple(min(block, size) for size in spatial)
    field = rng.random((channels, *spatial)) < 0.1
    grown = dilate(np.flatnonzero(field), field.shape, sizes)
    expected = maximum_filter(field.astype(np.uint8), size=(1, *sizes), mode="constant").astype(bool)
    assert grown.dtype == np.bool_ and grown.flags.c_contiguous
    assert np.array_equal(grown, expected)


@given(st.integers(1, 4), spatials, st.integers(1, 9), st.floats(0.01, 1.0), seeds)
def test_blocks_fit_every_map(channels, spatial, block, gamma, seed):
    mask, span = Blocks(gamma, block).draw(np.random.default_rng(seed), channels, spatial)
    assert mask.shape == (1, channels, *spatial) and mask.dtype == np.bool_ and span is None
    if all(size == 1 or block == 1 for size in spatial):
        assert Blocks(1.0, block).draw(np.random.default_rng(seed), channels, spatial)[0].all()


@pytest.mark.parametrize(
    ("spatial", "block"),
    [((32, 32), 7), ((8, 20), 5), ((9,), 4), ((5, 6, 7), 3), ((3, 3), 7), ((), 7), ((1, 1), 7)],
)
@pytest.mark.parametrize("gamma", [0.25, 0.9])
def test_the_expected_portion_is_the_mean_over_draws(spatial, block, gamma):
    sizes = tuple(min(block, size) for size in spatial)
    expected = expected_portion(seed_rate(gamma, spatial, sizes), spatial, sizes)
    mask, _ = Blocks(gamma, block).draw(np.random.default_rng(1), 4000, spatial)
    per_channel = mask.reshape(4000, -1).mean(axis=1)
    assert abs(mask.mean() - expected) < 5 * per_channel.std() / math.sqrt(4000) + 1e-9


@pytest.mark.parametrize(("f", "b"), [(32, 7), (16, 7), (8, 5), (7, 7)])
def test_gamma_is_the_papers_on_square_maps(f, b):
    assert seed_rate(0.5, (f, f), (b, b)) == pytest.approx(0.5 * f**2 / (b**2 * (f - b + 1) ** 2))


@given(st.floats(0.02, 0.98), st.lists(st.integers(1, 20), min_size=1, max_size=2).map(tuple))
def test_portion_is_solved_for(portion, spatial):
    sizes = tuple(min(5, size) for size in spatial)
    assert expected_portion(rate_for_portion(portion, spatial, sizes), spatial, sizes) == pytest.approx(
        portion
    )


def test_gaps_draw_abernoulli_field():
    rng, rate, size = np.random.default_rng(0), 0.07, 50
    counts = np.zeros(size)
    for _ in range(4000):
        counts[bernoulli(rng, rate, size)] += 1
    assert np.abs(counts / 4000 - rate).max() < 5 * math.sqrt(rate / 4000)
    assert len(bernoulli(rng, 0.0, size)) == 0
    assert np.array_equal(bernoulli(rng, 1.0, size), np.arange(size))


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple), st.floats(0.0, 1.0), st.booleans(), seeds
)
def test_the_box_is_its_span_and_no_larger_than_nominal(spatial, lam, many, seed):
    drawn = np.full(3, lam, dtype=np.float32) if many else lam
    if max(spatial) <= 2:
        with pytest.raises(ValueError, match="at least one spatial axis longer than 2"):
            Box(drawn).draw(np.random.default_rng(seed), 5, spatial)
        return
    mask, span = Box(drawn).draw(np.random.default_rng(seed), 5, spatial)
    assert mask.shape == (3 if many else 1, 1, *spatial)
    assert mask.reshape(len(mask), -1).mean(axis=1).max() <= 1.0 - lam + 1e-6
    if span is not None:
        again = np.zeros_like(mask)
        again[span] = True
        assert np.array_equal(again, mask)


def test_the_box_has_the_papers_side_and_reaches_every_border():
    rng, seen = np.random.default_rng(0), np.zeros((1, 1, 8, 12))
    largest = 0
    for _ in range(500):
        mask, _ = Box(0.75).draw(rng, 1, (8, 12))
        seen += mask
        largest = max(largest, mask.sum())
    assert largest == (8 // 2 // 2 * 2) * (12 // 2 // 2 * 2)
    assert (seen > 0).all()


def test_a_box_needs_space():
    for spatial in ((), (1,), (2, 2), (1, 2, 1)):
        with pytest.raises(ValueError, match=r"longer than 2, got .* use Mixup or ManifoldMixup"):
            Box(0.5).draw(np.random.default_rng(0), 3, spatial)


@pytest.mark.parametrize("spatial", [(1, 40), (2, 40), (40, 1), (1, 40, 2)])
def test_axes_too_short_for_a_box_are_left_whole(spatial):
    """A box of (1, T) is the box of (T,): no half of a box fits on both sides of a centre in 1 or 2 points."""
    for seed in range(20):
        short, _ = Box(0.6).draw(np.random.default_rng(seed), 3, spatial)
        long, _ = Box(0.6).draw(np.random.default_rng(seed), 3, (40,))
        expected = long.reshape([1, 1, *(40 if size == 40 else 1 for size in spatial)])
        assert np.array_equal(short, np.broadcast_to(expected, short.shape)) and short.any()


def test_the_share_of_a_box_follows_the_law_of_one_axis():
    """E[share] of Beta(1, 1) sides around uniform centres, clipped: by counting, on an axis of 50."""
    shares = [CutMix().plan(step=step, batch_size=2).blend((2, 3, 1, 50)).s for step in range(3000)]
    side = (np.arange(1e4) + 0.5) / 1e4 * 50 // 1 // 2
    centres = np.arange(50)[:, None]
    expected = ((np.minimum(centres + side, 50) - np.maximum(centres - side, 0)) / 50).ravel()
    assert ks_2samp(shares, expected).pvalue > 1e-3


def test_the_rate_for_a_portion_is_found_among_few_numbers():
    """Against the sum over every point of the map, as it was; what it costs depends on the block alone."""
    for spatial, sizes in (((56, 56), (7, 7)), ((9,), (4,)), ((6, 11, 5), (3, 4, 5)), ((), ())):
        rate = rate_for_portion(0.3, spatial, sizes)
        seen = np.ones(())
        for f, b in zip(spatial, sizes, strict=True):
            along = [min(p + (b - 1) // 2, f - 1) - max(p - b // 2, 0) + 1 for p in range(f)]
            seen = np.multiply.outer(seen, along)
        assert (1 - (1 - rate) ** seen).mean() == pytest.approx(0.3, rel=1e-9)


def test_recipes_compare_by_value():
    lam = np.array([0.25, 0.5], np.float32)
    assert Box(lam) == Box(lam.copy()) and hash(Box(lam)) == hash(Box(lam.copy()))
    assert Box(lam) != Box(lam[::-1]) and Box(0.5) == Box(0.5) and Box(0.5) != Box(0.25)
    plan = Mixup(lam_per="sample").plan(step=1, batch_size=4)
    assert plan.blend((4, 2)) == plan.blend((4, 2)) != plan.blend((4, 2, 3, 3)).perm
    assert plan.blend((4, 2)) != Mixup(lam_per="sample").plan(step=2, batch_size=4).blend((4, 2))
