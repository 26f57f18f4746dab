"""Geometry: masks of every shape, and the share that they really cover."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from mixlayers._masks import Blocks, Box, bernoulli, dilate, expected_portion, rate_for_portion, seed_rate

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
    with pytest.raises(ValueError, match="use Mixup or ManifoldMixup"):
        Box(0.5).draw(np.random.default_rng(0), 3, ())
