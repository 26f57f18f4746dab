"""Laws of FMix, HMix, GMix, ResizeMix, SpecMix, CutMix along axes, Remix, Beside and LISA's pairs, in NumPy."""

import json
import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixlayers import (
    Across,
    Beside,
    CutMix,
    FMix,
    GMix,
    Halves,
    HMix,
    ManifoldMixup,
    MixPlan,
    Mixup,
    PatchUp,
    Remix,
    ResizeMix,
    SpecMix,
)
from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.framework.numpy_arrays import NUMPY
from mixlayers._core.plan.pairs import draw_pairs
from mixlayers._core.plan.relabel import Lopsided
from mixlayers._core.plan.weights import Bell, HollowBox

WEIGHING = [FMix(max_soft=0.3), HMix(), HMix(ratio=1.0, lam_per="sample"), GMix(), GMix(lam_per="pair")]
MASKING = [FMix(), SpecMix(), ResizeMix(), CutMix(axes=(0,))]
maps = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(4, 14), st.integers(4, 14))


def brought(method, shape, step=0, channel_dim=1):
    return method.plan(step=step, batch_size=shape[0]).blend(shape, channel_dim)


def mixed(x, y, method, step=0):
    return mix_batch(NUMPY, x, y, method, step=step, seed=0, rank=0, batch_dim=0, channel_dim=1)


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


@pytest.mark.parametrize("method", [*WEIGHING, *MASKING], ids=repr)
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
    how = HollowBox(0.7).draw(np.random.default_rng(seed), np.arange(2), lam, 3, (9,) * axes)
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
        how = Bell().draw(np.random.default_rng(1), np.arange(2), lam, 3, (40, 30))
        smaller = min(lam, 1.0 - lam)
        bell = how.keep[0, 0] if lam < 0.5 else 1.0 - how.keep[0, 0]
        top, left = np.unravel_index(bell.argmax(), bell.shape)
        far = (np.arange(40)[:, None] - top) ** 2 + (np.arange(30) - left) ** 2
        np.testing.assert_allclose(bell, np.exp(-math.pi * far / (smaller * 40 * 30)), atol=1e-6)
        assert bell.mean() <= smaller + 0.01  # cut at the border
    whole = Bell().draw(np.random.default_rng(0), np.arange(1), 0.02, 1, (61, 61))
    inside = [Bell().draw(np.random.default_rng(s), np.arange(1), 0.02, 1, (61, 61)).keep for s in range(40)]
    assert (
        max(float(one.mean()) for one in inside) == pytest.approx(0.02, abs=2e-4) and whole.keep.max() == 1.0
    )


def test_fmix_keeps_floor_or_ceil_of_lam_in_patches():
    shares, alike = [], []
    for step in range(300):
        plan = FMix().plan(step=step, batch_size=2)
        mask = plan.blend((2, 3, 32, 20)).mask
        kept = 640 - int(mask.sum())
        assert kept in (math.floor(plan.recipe.lam * 640), math.ceil(plan.recipe.lam * 640))
        shares.append(1.0 - kept / 640)
        alike.append((mask[0, 0, 1:] == mask[0, 0, :-1]).mean() - shares[-1] ** 2 - (1 - shares[-1]) ** 2)
    assert stats.kstest(shares, "uniform").pvalue > 1e-3
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


def test_folded_lam_is_the_larger_half():
    for per in ("batch", "sample", "pair"):
        for step in range(20):
            plain = Mixup(0.5, lam_per=per).plan(step=step, batch_size=6)
            folded = Mixup(0.5, lam_per=per, fold=True).plan(step=step, batch_size=6)
            np.testing.assert_array_equal(folded.lam, np.maximum(plain.lam, 1 - plain.lam))
            assert type(folded.lam) is type(plain.lam)
            assert np.array_equal(folded.perm, plain.perm)


def remix(lam, own, theirs, tau=0.5, k=3.0):
    """Remix's rule, written out for one pair: the sample's own share of the label."""
    if own >= k * theirs and lam < tau:
        return 0.0
    if theirs >= k * own and 1 - lam < tau:
        return 1.0
    return lam


@given(st.floats(0.0, 1.0), st.integers(1, 50), st.integers(1, 50), st.floats(0.1, 1.0), st.floats(1.1, 5.0))
def test_remix_follows_its_rule(lam, own, theirs, tau, k):
    rule = Lopsided.of(np.array([own, theirs], np.float64), np.array([1, 0]), k, tau)
    lam32 = np.float32(lam)
    s = rule.share(float(1.0 - lam32))
    if abs(lam - tau) > 1e-5 and abs(1 - lam - tau) > 1e-5:
        assert 1.0 - s[0] == pytest.approx(remix(lam, own, theirs, tau, k), abs=1e-6)
        assert 1.0 - s[1] == pytest.approx(remix(lam, theirs, own, tau, k), abs=1e-6)


def test_remix_as_it_was_run():
    """The two cases of methods_more.md, from third-party code; and equal classes, which nothing decides."""
    assert Lopsided((1,), 0.5).share(0.7)[0] == 1.0 == 1.0 - remix(0.3, 100, 10)
    assert Lopsided((-1,), 0.5).share(0.3)[0] == 0.0 == 1.0 - remix(0.7, 10, 100)
    assert Lopsided((0,), 0.5).share(0.3)[0] == np.float32(0.3)


@pytest.mark.parametrize(
    "inner", [Mixup(), CutMix(), Mixup(lam_per="sample"), PatchUp("hard", block_size=2)], ids=repr
)
def test_remix_mixes_features_as_the_method_and_relabels_by_the_real_share(inner):
    x, y = np.random.default_rng(0).normal(size=(8, 3, 9, 9)), np.array([0, 0, 0, 0, 1, 1, 2, 2])
    counts = (100, 10, 30)
    for step in range(20):
        expected, target = mixed(x, y, inner, step)
        found, relabelled = mixed(x, y, Remix(inner, counts), step)
        np.testing.assert_array_equal(found, expected)
        perm, s = target.plan.perm, np.broadcast_to(target.s, 8)
        wanted = [1 - remix(1 - s[i], counts[y[i]], counts[y[perm[i]]]) for i in range(8)]
        np.testing.assert_allclose(relabelled.s, wanted, atol=1e-6)
        again = MixPlan.from_dict(json.loads(json.dumps(relabelled.plan.to_dict())))
        assert again.relabel == relabelled.plan.relabel
    data = relabelled.plan.to_dict()
    data["relabel"]["rarer"] = [0]
    with pytest.raises(ValueError, match="rarer must have 8 entries"):
        MixPlan.from_dict(data)


@pytest.mark.parametrize("inner", [Mixup(20.0), Mixup(lam_per="sample"), CutMix(), HMix()], ids=repr)
def test_beside_leaves_the_first_half_as_it_is(inner):
    x, y = np.random.default_rng(0).normal(size=(5, 3, 8, 8)), np.arange(5)
    both, target = mixed(np.concatenate([x, x]), np.concatenate([y, y]), Beside(inner), step=3)
    np.testing.assert_allclose(both[:5], x, rtol=1e-6)
    perm = target.plan.perm
    assert np.array_equal(perm[:5], np.arange(5)) and sorted(perm[5:]) == list(range(5, 10))
    soft = target.soft(5)
    np.testing.assert_allclose(soft[:5], np.eye(5), atol=1e-6)
    inside = 1.0 - np.broadcast_to(target.s, 10)[5:, None]
    np.testing.assert_allclose(
        soft[5:], inside * np.eye(5)[y] + (1 - inside) * np.eye(5)[y[perm[5:] - 5]], atol=1e-6
    )


def test_besides_loss_is_half_clean_and_half_mixed():
    """RegMixup's, for any loss that is affine in the target and takes the mean: by hand."""
    rng, y = np.random.default_rng(1), np.arange(6)
    x, w = rng.normal(size=(6, 4)), rng.normal(size=(4, 6))
    both, target = mixed(np.concatenate([x, x]), np.concatenate([y, y]), Beside(Mixup(10.0)), step=1)
    plan = target.plan

    def loss(features, labels):
        scores = features @ w
        logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return -logs[np.arange(len(labels)), labels].mean()

    perm = plan.perm[6:] - 6
    blended = plan.lam * x + (1 - plan.lam) * x[perm]
    published = loss(x, y) / 2 + (plan.lam * loss(blended, y) + (1 - plan.lam) * loss(blended, y[perm])) / 2
    assert target.blend(lambda labels: loss(both, labels)) == pytest.approx(published)


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


def test_bytes_are_mixed_and_rounded():
    x = np.random.default_rng(0).integers(256, size=(4, 3, 12, 12), dtype=np.uint8)
    for method in (HMix(), GMix(), FMix(max_soft=0.4), ResizeMix()):
        found, _ = mixed(x, np.arange(4), method, step=2)
        exact, _ = mixed(x.astype(np.float32), np.arange(4), method, step=2)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.rint(exact).astype(np.uint8))
