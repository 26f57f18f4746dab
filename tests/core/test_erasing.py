"""Cropped and erased boxes: where they lie, how large they are, and what an erased one becomes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, ks_2samp, kstest

from mixlayers._core.augment.crop import RandomResizedCrop
from mixlayers._core.augment.erasing import Cutout, Erase, RandomErasing
from mixlayers._core.augment.policies import Normalize

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
seeds = st.integers(0, 2**32)


def boxes(policy, size, number=3000):
    rng = np.random.default_rng(0)
    steps = [step for _ in range(number) for step in policy.draw(rng, size)]
    return np.array([(step.top, step.left, step.height, step.width) for step in steps])


@pytest.mark.parametrize(
    ("policy", "scale", "ratio"),
    [
        (RandomErasing(1.0, (0.02, 0.33), (0.4, 2.5)), (0.02, 0.33), (0.4, 2.5)),
        (RandomResizedCrop(8, (0.08, 0.4), (0.5, 2.0)), (0.08, 0.4), (0.5, 2.0)),
    ],
    ids=["erasing", "crop"],
)
def test_boxes_that_always_fit_have_uniform_area_and_log_uniform_shape(policy, scale, ratio):
    top, left, height, width = boxes(policy, (1000, 1000)).T
    assert len(top) == 3000
    assert kstest(height * width / 1e6, "uniform", (scale[0], scale[1] - scale[0])).pvalue > 1e-3
    low, high = np.log(ratio)
    assert kstest(np.log(height / width), "uniform", (low, high - low)).pvalue > 1e-3
    for start, side in ((top, height), (left, width)):
        assert kstest(start / (1000 - side), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("size", [(60, 90), (200, 40)])
def test_erased_boxes_are_the_papers_law_where_they_fit(size):
    """Area uniform, logarithm of the shape uniform, given that the box is smaller than the image."""
    rows, columns = size
    rng = np.random.default_rng(1)
    area, shape = (
        rows * columns * rng.uniform(0.02, 0.33, 20000),
        np.exp(rng.uniform(*np.log([0.3, 3.3]), 20000)),
    )
    height, width = np.sqrt(area * shape), np.sqrt(area / shape)
    fits = (np.rint(height) < rows) & (np.rint(width) < columns)
    drawn = boxes(RandomErasing(p=1.0), size)
    jitter = rng.uniform(-0.5, 0.5, (2, len(drawn)))  # sides are rounded
    for ours, law in (
        (drawn[:, 2] * drawn[:, 3], height * width),
        (drawn[:, 2] + jitter[0], height),
        (drawn[:, 3] + jitter[1], width),
    ):
        assert ks_2samp(ours, law[fits]).pvalue > 1e-3


@pytest.mark.parametrize(
    "policy",
    [
        RandomErasing(1.0),
        RandomErasing(1.0, count=(2, 2)),
        RandomResizedCrop(8),
        Cutout(6),
        Cutout(4, count=3),
    ],
    ids=repr,
)
def test_boxes_reach_every_border(policy):
    seen = np.zeros((12, 18), dtype=int)
    for top, left, height, width in boxes(policy, (12, 18), 2000):
        seen[top : top + height, left : left + width] += 1
    assert (seen > 0).all()


def test_cutout_is_the_papers_square_around_a_uniform_centre():
    height, width = boxes(Cutout(8), (32, 40), 4000).T[2:]
    assert height.max() == width.max() == 8 and height.min() == width.min() == 4
    expected = np.mean([min(c + 4, 32) - max(c - 4, 0) for c in range(32)])
    assert abs(height.mean() - expected) < 5 * height.std() / math.sqrt(4000)
    assert np.array_equal(boxes(Cutout(9), (32, 40), 50), boxes(Cutout(8), (32, 40), 50))


def test_many_boxes_share_the_area():
    rng = np.random.default_rng(0)
    for _ in range(200):
        steps = RandomErasing(1.0, (0.3, 0.3), (1.0, 1.0), count=(2, 4)).draw(rng, (300, 300))
        assert 2 <= len(steps) <= 4
        assert sum(step.height * step.width for step in steps) == pytest.approx(0.3 * 300 * 300, rel=0.02)


@given(
    st.sampled_from(["random", "rand", "pixel", (7.0,), (1.0, 2.0, 3.0)]),
    sizes,
    seeds,
    st.sampled_from("uhf"),
)
def test_erasing_replaces_the_box_alone(value, size, seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "f":
        image = rng.standard_normal((3, *size)).astype(np.float32)
    else:
        image = rng.integers(0, 256, (*size, 3) if kind == "u" else size, dtype=np.uint8)
    if kind == "h" and isinstance(value, tuple):
        value = value[:1]
    before = image.copy()
    (step,) = Cutout(6, value=value).draw(rng, size)
    erased = step.on(image)
    assert np.array_equal(image, before) and not np.shares_memory(erased, image)
    assert erased.dtype == image.dtype and erased.shape == image.shape
    assert np.array_equal(erased, step.on(image))
    mask = np.zeros(size, dtype=bool)
    mask[step.top : step.top + step.height, step.left : step.left + step.width] = True
    planes, was = (x if kind == "f" else np.atleast_3d(x).transpose(2, 0, 1) for x in (erased, image))
    assert np.array_equal(planes[:, ~mask], was[:, ~mask])
    if isinstance(value, tuple):
        assert (planes[:, mask] == np.array(value)[:, None]).all()
    elif value == "rand":
        assert (planes[:, mask] == planes[:, mask][:, :1]).all()
    elif mask.sum() > 4:
        assert len(np.unique(planes[:, mask])) > 2


def test_noise_is_normal_after_normalisation_and_uniform_before():
    step = Erase(0, 0, 100, 100, "pixel", seed=5)
    assert kstest(step.on(np.zeros((3, 100, 100), np.float32)).ravel(), "norm").pvalue > 1e-3
    grey = step.on(np.zeros((100, 100), np.uint8))
    assert chisquare(np.bincount(grey.ravel(), minlength=256)).pvalue > 1e-3
    assert not np.array_equal(grey, Erase(0, 0, 100, 100, "pixel", seed=6).on(grey))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floating_images_may_have_their_channels_last(channels):
    """Where it can be told: 1, 3 or 4 last, and another number first."""
    image = np.random.default_rng(0).normal(size=(12, 10, channels)).astype(np.float32)
    for value in ((7.0,), "pixel", "rand"):
        step = Erase(2, 3, 4, 5, value, seed=1)
        last, first = step.on(image), step.on(np.ascontiguousarray(image.transpose(2, 0, 1)))
        assert np.array_equal(last, first.transpose(1, 2, 0))
        assert (last[2:6, 3:8] != image[2:6, 3:8]).all() and np.array_equal(last[6:], image[6:])
    same = np.zeros((3, 8, 3), np.float32)  # (C, H, W), as documented, where both may be
    assert Erase(0, 0, 8, 1, (1.0,)).on(same)[:, :, 0].all()


def test_erasing_outside_or_in_other_units_is_an_error():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"inside the image of size \(8, 8\)"):
        Erase(5, 0, 4, 4).on(image)
    with pytest.raises(ValueError, match=r"whole and in \[0, 255\], got \(0.5,\): erase after Normalize"):
        Erase(0, 0, 4, 4, (0.5,)).on(image)
    with pytest.raises(ValueError, match=r"one number, or 3, one a channel; got \(1.0, 2.0\)"):
        Erase(0, 0, 4, 4, (1, 2)).on(image)
    with pytest.raises(ValueError, match=r"2 means for an image of 3 channels"):
        Normalize([0.5] * 2, [0.5] * 2).on(image)
