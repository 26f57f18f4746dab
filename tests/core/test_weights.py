"""Laws of FMix, HMix, GMix, ResizeMix, SpecMix and CutMix along axes, in NumPy."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixlayers import CutMix, FMix, GMix, HMix, MixPlan, ResizeMix, SpecMix
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.weights import Bell, HollowBox
from tests.support.mixed_arrays import mixed

WEIGHING = [FMix(max_soft=0.3), HMix(), HMix(ratio=1.0, lam_per="sample"), GMix(), GMix(lam_per="pair")]
MASKING = [FMix(), SpecMix(), ResizeMix(), CutMix(axes=(0,))]
maps = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(4, 14), st.integers(4, 14))


def brought(method, shape, step=0, channel_dim=1):
    return method.plan(step=step, batch_size=shape[0]).blend(shape, channel_dim)


@given(st.sampled_from(WEIGHING), maps, st.integers(0, 200))
def test_weights_are_shares_and_the_label_gets_their_mean(method, shape, step):
    how = brought(method, shape, step)
    keep = np.broadcast_to(how.keep, (shape[0], 1, *shape[2:]))
    assert how.keep.dtype == np.float32 and keep.min() >= 0.0 and keep.max() <= 1.0
    np.testing.assert_allclose(np.broadcast_to(how.s, shape[0]), 1.0 - keep.mean((1, 2, 3)), atol=1e-6)
    assert isinstance(how.s, float) or how.s.dtype == np.float32


@given(st.sampled_from([*WEIGHING, *MASKING]), maps, st.integers(0, 200))
def test_a_plan_is_replayed_from_json_in_either_layout(method, shape, step):
    plan = method.plan(step=step, batch_size=shape[0], seed=3)
    again = MixPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.to_dict() == plan.to_dict() and again.blend(shape) == plan.blend(shape)
    first, last = plan.blend(shape), again.blend((shape[0], *shape[2:], shape[1]), channel_dim=-1)
    for name in ("keep", "mask"):
        if hasattr(first, name):
            assert np.array_equal(np.moveaxis(getattr(last, name), -1, 1), getattr(first, name))
    assert np.array_equal(first.s, last.s)


@pytest.mark.parametrize(
    "method", [each for each in (*WEIGHING, *MASKING) if each != ResizeMix()], ids=repr
)  # whose labels would have to move
@pytest.mark.parametrize("spatial", [(12, 9), (6, 6), (24, 18)])
def test_labels_of_pixels_get_the_share_over_their_part(method, spatial):
    """By counting on a grid that both resolutions divide."""
    plan = method.plan(step=4, batch_size=4)
    how = plan.blend((4, 2, 12, 18))
    w = (1.0 - how.keep if hasattr(how, "keep") else how.mask * 1.0).mean(1)
    (rows, columns), fine = spatial, w.repeat(spatial[0], 1).repeat(spatial[1], 2)
    expected = fine.reshape(len(w), rows, 12, columns, 18).mean((2, 4))
    np.testing.assert_allclose(plan.share_map((4, 2, 12, 18), spatial), expected, atol=1e-6)


@given(st.floats(0.0, 1.0), st.integers(1, 3), st.integers(0, 300))
def test_hmix_gives_the_label_lam_whatever_the_box_loses_at_the_border(lam, axes, seed):
    how = HollowBox(0.7).draw(np.random.default_rng(seed), Feature(np.arange(2), lam, (2, 3, *(9,) * axes)))
    assert how.s == 1.0 - lam
    assert how.keep.mean() == pytest.approx(lam, abs=1e-6)


def test_hmix_of_ratio_1_is_cutmix_outside_its_box_made_up_for():
    for step in range(30):
        plan = HMix(ratio=1.0).plan(step=step, batch_size=3)
        box = CutMix().plan(step=step, batch_size=3).blend((3, 2, 12, 12))
        how = plan.blend((3, 2, 12, 12))
        assert np.array_equal(how.keep == 0.0, box.mask) or plan.lam == 0.0
        outside = how.keep[~box.mask]
        assert np.ptp(outside) < 1e-6 and (outside <= 1.0 - box.s + 1e-6).mean() <= 1.0
        np.testing.assert_allclose(outside * (1.0 - box.s), plan.lam, atol=1e-6)


def test_gmix_is_a_bell_of_the_smaller_share_around_a_centre():
    """Against the bell written out, whose integral over the plane is a * H * W."""
    for lam in (0.1, 0.4, 0.5, 0.8):
        how = Bell().draw(np.random.default_rng(1), Feature(np.arange(2), lam, (2, 3, 40, 30)))
        smaller = min(lam, 1.0 - lam)
        bell = how.keep[0, 0] if lam < 0.5 else 1.0 - how.keep[0, 0]
        top, left = np.unravel_index(bell.argmax(), bell.shape)
        far = (np.arange(40)[:, None] - top) ** 2 + (np.arange(30) - left) ** 2
        np.testing.assert_allclose(bell, np.exp(-math.pi * far / (smaller * 40 * 30)), atol=1e-6)
        assert bell.mean() <= smaller + 0.01  # cut at the border
    feature = Feature(np.arange(1), 0.02, (1, 1, 61, 61))
    whole = Bell().draw(np.random.default_rng(0), feature)
    inside = [Bell().draw(np.random.default_rng(s), feature).keep for s in range(40)]
    assert (
        max(float(one.mean()) for one in inside) == pytest.approx(0.02, abs=2e-4) and whole.keep.max() == 1.0
    )


def test_fmix_keeps_floor_or_ceil_of_lam_in_patches():
    shares, alike, upwards = [], [], []
    for step in range(300):
        plan = FMix().plan(step=step, batch_size=2)
        mask = plan.blend((2, 3, 32, 20)).mask
        kept = 640 - int(mask.sum())
        assert kept in (math.floor(plan.recipe.lam * 640), math.ceil(plan.recipe.lam * 640))
        upwards.append(kept > plan.recipe.lam * 640)
        shares.append(1.0 - kept / 640)
        alike.append((mask[0, 0, 1:] == mask[0, 0, :-1]).mean() - shares[-1] ** 2 - (1 - shares[-1]) ** 2)
    assert stats.kstest(shares, "uniform").pvalue > 1e-3
    assert stats.binomtest(sum(upwards), 300).pvalue > 1e-3  # a coin decides which of the two
    assert np.mean(alike) > 0.2  # independent cells would agree by 0 more than chance


@pytest.mark.parametrize("shape", [(2, 3, 50), (2, 1, 9, 7, 5), (2, 3, 1, 40), (2, 3, 16, 1)])
def test_fmix_fits_series_and_volumes(shape):
    drawn = [FMix().plan(step=step, batch_size=2).blend(shape).mask for step in range(40)]
    assert all(mask.shape == (1, 1, *shape[2:]) for mask in drawn)
    assert 0.3 < np.mean(drawn) < 0.7


def test_fmixs_field_has_the_papers_spectrum():
    """White noise times max(|f|, 1 / longest side) ** -decay: the power of many fields at each frequency."""
    from mixlayers._core.plan import weights

    fields = []
    original = np.fft.irfftn
    try:
        np.fft.irfftn = lambda *args, **kwargs: fields.append(original(*args, **kwargs)) or fields[-1]
        for seed in range(400):
            weights.FourierField(0.5, 2.0).draw(np.random.default_rng(seed), 1, (16, 12))
    finally:
        np.fft.irfftn = original
    power = np.mean(np.abs(np.fft.fftn(fields, axes=(1, 2))) ** 2, axis=0)
    f = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.fftfreq(12))
    expected = np.maximum(f, 1 / 16) ** -4.0
    inner = (slice(1, 8), slice(1, 6))  # where the half spectrum is not its own mirror image
    ratio = power[inner] / expected[inner]
    assert np.ptp(ratio) / ratio.mean() < 0.6 and abs(ratio.mean() / 2.0 - 1.0) < 0.1


def test_soft_fmix_has_the_hard_mask_in_its_middle():
    for step in range(20):
        hard = FMix().plan(step=step, batch_size=2)
        soft = FMix(max_soft=0.25).plan(step=step, batch_size=2)
        mask, keep = hard.blend((2, 3, 16, 16)).mask, soft.blend((2, 3, 16, 16)).keep
        assert np.array_equal(keep > 0.5, ~mask & (keep > 0.5)) and (keep[mask] <= 0.5).all()
        blended = (keep > 0) & (keep < 1)
        assert abs(int(blended.sum()) - 2 * int(min(0.25, soft.lam, 1 - soft.lam) * 256)) <= 2


def test_resizemix_has_the_published_share_and_stays_inside():
    shares, seen = [], np.zeros((20, 30))
    for step in range(400):
        plan = ResizeMix().plan(step=step, batch_size=4)
        how = plan.blend((4, 3, 20, 30))
        height, width = int(plan.recipe.scale * 20), int(plan.recipe.scale * 30)
        assert (how.mask.sum((1, 2, 3)) == height * width).all() and how.s == height * width / 600
        seen += how.mask.sum((0, 1))
        shares.append(ResizeMix().plan(step=step, batch_size=1).blend((1, 1, 224, 224)).s)
    assert abs(np.mean(shares) - 0.243) < 0.025 and (seen > 0).all()
    places = {mask.tobytes() for mask in how.mask}
    assert len(places) > 1  # each sample has a place of its own


def test_specmix_has_up_to_three_bands_of_each_kind():
    lengths = Counter()
    for step in range(300):
        mask = SpecMix().plan(step=step, batch_size=2).blend((2, 1, 20, 40)).mask[0, 0]
        rows, columns = mask.all(1), mask.all(0)
        assert np.array_equal(mask, rows[:, None] | columns)
        lengths[int(rows.sum())] += 1
        assert rows.sum() <= 18 and columns.sum() <= 36
    assert lengths[0] / 300 == pytest.approx(0.25, abs=0.08) and lengths[6] / 300 > 0.2  # one band is 6 long
    assert min(length for length in lengths if length) == 6


@pytest.mark.parametrize("axis", [0, -1])
def test_a_box_along_one_axis_is_the_box_of_a_series(axis):
    for step in range(20):
        series = CutMix().plan(step=step, batch_size=2).blend((2, 3, 30)).mask
        along = CutMix(axes=(axis,)).plan(step=step, batch_size=2).blend((2, 3, 30, 30)).mask
        expected = series[..., None] if axis == 0 else series[:, :, None]
        assert np.array_equal(along, np.broadcast_to(expected, along.shape))


def test_bytes_are_mixed_and_rounded():
    x = np.random.default_rng(0).integers(256, size=(4, 3, 12, 12), dtype=np.uint8)
    for method in (HMix(), GMix(), FMix(max_soft=0.4), ResizeMix()):
        found, _ = mixed(x, np.arange(4), method, step=2)
        exact, _ = mixed(x.astype(np.float32), np.arange(4), method, step=2)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.rint(exact).astype(np.uint8))
