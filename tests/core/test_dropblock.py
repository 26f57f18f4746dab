"""DropBlock and erasing: what is replaced, by what, and by which law."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest

from mixlayers import DropBlock, Erasing, Method, MixPlan, Mixup, OneOf, Scheduled
from mixlayers._core.augment.erasing import RandomErasing
from mixlayers._core.framework.numpy_arrays import NUMPY
from mixlayers._core.plan.masks import bernoulli, seed_rate
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.streams import MASK, stream
from tests.support import reference


def planned(method: Method, shape: tuple[int, ...], step: int = 0, channel_dim: int = 1) -> Replace:
    how = method.plan(step=step, batch_size=shape[0], places=("0",)).blend(shape, channel_dim)
    assert isinstance(how, Replace)
    return how


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.integers(1, 9), max_size=3),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 50),
)
@settings(max_examples=60)
def test_dropped_blocks_fit_and_have_the_papers_rate(size, channels, spatial, block_size, couple, step):
    couple = couple and bool(spatial)
    how = planned(DropBlock(0.3, block_size, couple), (size, channels, *spatial), step)
    planes, sizes = 1 if couple else channels, tuple(min(block_size, side) for side in spatial)
    rate = 0.3 * np.prod([f / (b * (f - b + 1)) for f, b in zip(spatial, sizes, strict=True)])
    corners = np.zeros((size * planes, *(f - b + 1 for f, b in zip(spatial, sizes, strict=True))), dtype=bool)
    corners.ravel()[bernoulli(stream(0, 0, step, MASK), rate, corners.size)] = True
    expected = reference.drop_block(corners, sizes).reshape(size, planes, *spatial)
    assert np.array_equal(how.mask, expected)
    assert not how.fill.any()
    assert how.scale == expected.size / max((~expected).sum(), 1)


@pytest.mark.parametrize(
    ("spatial", "block_size"), [((7, 7), 7), ((14, 14), 7), ((12, 5), 6), ((3, 20), 7), ((9,), 3)]
)
def test_the_dropped_share_is_what_the_papers_rate_gives(spatial, block_size):
    sizes = tuple(min(block_size, side) for side in spatial)
    shares = planned(DropBlock(0.2, block_size), (100, 60, *spatial)).mask.reshape(6000, -1).mean(1)
    covered = np.ones(())
    for f, b in zip(spatial, sizes, strict=True):  # by how many places of a block each point is
        covered = np.multiply.outer(covered, [min(p, f - b) - max(p - b + 1, 0) + 1 for p in range(f)])
    expected = 1.0 - ((1.0 - seed_rate(0.2, spatial, sizes)) ** covered).mean()
    assert abs(shares.mean() - expected) < 4 * shares.std() / 6000**0.5
    assert 0.15 < expected <= 0.2 + 1e-9


def test_samples_and_channels_drop_their_own_blocks_unless_coupled():
    mask = planned(DropBlock(0.3, 3), (4, 5, 12, 12)).mask
    assert mask.shape == (4, 5, 12, 12)
    assert len({plane.tobytes() for plane in mask.reshape(20, -1)}) == 20
    assert planned(DropBlock(0.3, 3, couple_channels=True), (4, 5, 12, 12)).mask.shape == (4, 1, 12, 12)
    with pytest.raises(ValueError, match="couple_channels=True drops whole samples"):
        planned(DropBlock(couple_channels=True), (4, 5))


def test_one_by_one_maps_and_plain_features_are_dropped_out():
    for shape in ((50, 400), (50, 400, 1, 1)):
        assert abs(planned(DropBlock(0.1), shape).mask.mean() - 0.1) < 0.01


@pytest.mark.parametrize(
    "method", [DropBlock(0.3, 4), Erasing(1.0, value="rand"), Erasing(1.0, size=4)], ids=repr
)
def test_channels_last_is_the_same_step(method):
    first, last = planned(method, (3, 2, 9, 8)), planned(method, (3, 9, 8, 2), channel_dim=-1)
    for name in ("mask", "fill"):
        assert np.array_equal(np.moveaxis(getattr(last, name), -1, 1), getattr(first, name))


def test_erased_areas_are_those_of_the_policy():
    law = {"p": 0.7, "scale": (0.05, 0.4), "ratio": (0.5, 2.0)}
    areas = planned(Erasing(**law), (1500, 1, 40, 30)).mask.sum((1, 2, 3))
    rng = np.random.default_rng(1)
    drawn = [RandomErasing(**law).draw(rng, (40, 30)) for _ in range(1500)]
    theirs = np.array([sum(box.height * box.width for box in boxes) for boxes in drawn])
    assert abs((areas > 0).mean() - 0.7) < 0.05
    assert ks_2samp(areas[areas > 0], theirs[theirs > 0]).pvalue > 1e-3


def test_each_image_has_its_own_boxes_and_what_fills_them():
    noise = planned(Erasing(1.0, value="pixel", count=(2, 2)), (400, 3, 16, 16))
    inside = noise.fill[np.broadcast_to(noise.mask, noise.fill.shape)]
    assert abs(inside.mean()) < 0.02 and abs(inside.std() - 1.0) < 0.02
    assert len({one.tobytes() for one in noise.mask}) > 390
    assert planned(Erasing(value=(1.0, 2.0, 3.0)), (2, 3, 8, 8)).fill.ravel().tolist() == [1.0, 2.0, 3.0]
    squares = planned(Erasing(1.0, size=4), (300, 1, 20, 20)).mask
    assert set(squares.sum((1, 2, 3))) <= {4, 6, 8, 9, 12, 16} and squares[:, 0, 9, 9].any()
    assert squares.any(0).all()  # every border is reached


def test_noise_is_standard_normal():
    noise = planned(Erasing(1.0, value="random", scale=(0.3, 0.3)), (20, 3, 64, 64))
    inside = noise.fill[np.broadcast_to(noise.mask, noise.fill.shape)]
    assert len(inside) > 60000
    assert kstest(inside, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(inside[1:], inside[:-1])[0, 1]) < 0.02


def test_a_plan_from_before_the_table_of_quantiles_erases_by_the_noise_that_it_had():
    """A dict of format 2 without `quantiles`, and the first numbers of its noise then."""
    told = Erasing(1.0, value="pixel").plan(step=5, batch_size=4, seed=2, rank=1).to_dict()
    del told["recipe"]["quantiles"]
    how = MixPlan.from_dict(json.loads(json.dumps(told))).blend((4, 3, 9, 9))
    assert how.fill[np.broadcast_to(how.mask, how.fill.shape)][:3].tolist() == [
        -0.4164333939552307,
        0.8677898049354553,
        -1.3739696741104126,
    ]


@pytest.mark.parametrize(
    "method", [DropBlock(0.2, 3), Erasing(1.0, value="pixel"), Erasing(size=4)], ids=repr
)
def test_a_plan_is_replayed_from_json_and_mixes_nobody(method):
    assert eval(repr(method)) == method
    plan = method.plan(step=5, batch_size=4, places=("a", "b"), seed=2, rank=1)
    again = MixPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.recipe == plan.recipe and again.place == plan.place and not again.mixes
    one, other = plan.blend((4, 3, 9, 9)), again.blend((4, 3, 9, 9))
    assert np.array_equal(one.mask, other.mask) and np.array_equal(one.fill, other.fill)
    assert plan.perm.tolist() == [0, 1, 2, 3] and one.s == 0.0


def test_methods_of_methods_take_them():
    either = OneOf({DropBlock(): 1, Mixup(): 1})
    kinds = [either.plan(step=step, batch_size=4, places=("a",)).mixes for step in range(400)]
    assert 0.4 < np.mean(kinds) < 0.6
    assert either.mixes_labels and not OneOf({DropBlock(): 1, Erasing(): 2}).mixes_labels
    rising = Scheduled(DropBlock(), warmup=1000)
    acts = np.array([rising.plan(step=step, batch_size=2).place is not None for step in range(1000)])
    assert abs(acts[:500].mean() - 0.25) < 0.08 and abs(acts[500:].mean() - 0.75) < 0.08


def test_8_bit_batches_are_erased_by_whole_numbers_alone():
    x = np.full((2, 3, 8, 8), 9, np.uint8)
    erased = NUMPY.replace(x, planned(Erasing(1.0, value=(1.0, 2.0, 255.0)), x.shape))
    assert erased.dtype == np.uint8 and set(erased[:, 2].ravel()) == {9, 255}
    for method in (Erasing(1.0, value="pixel"), Erasing(1.0, value=0.5), DropBlock(0.5, 1)):
        with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
            NUMPY.replace(x, planned(method, x.shape))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DropBlock(0.0), r"drop must be in \(0, 1\), got 0.0"),
        (lambda: DropBlock(1.0), r"drop must be in \(0, 1\), got 1.0"),
        (lambda: DropBlock(block_size=0), "block_size must be in"),
        (lambda: DropBlock(block_size=2.5), "block_size must be an integer"),
        (lambda: DropBlock(pairs="derangement"), "DropBlock has no partners, got pairs='derangement'"),
        (lambda: Erasing(lam_per="sample"), "Erasing has no partners, got lam_per='sample'"),
        (lambda: Erasing(p=2), "p must be in"),
        (lambda: Erasing(size=0), "size must be in"),
        (lambda: planned(Erasing(), (2, 3, 8)), "Erasing needs images or maps"),
    ],
)
def test_bad_arguments_are_refused(make, says):
    with pytest.raises((ValueError, TypeError), match=says):
        make()
