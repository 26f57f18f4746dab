"""What the policies decide: within bounds, by the papers' laws, and the same for the same seed."""

import math
import pickle
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from mixlayers._core.augment.crop import Crop, RandomResizedCrop
from mixlayers._core.augment.erasing import Cutout, Erase, RandomErasing
from mixlayers._core.augment.operations import RANGES, Operation
from mixlayers._core.augment.policies import (
    AutoAugment,
    Compose,
    Normalize,
    RandAugment,
    RandomHorizontalFlip,
    TrivialAugmentWide,
)
from mixlayers._core.augment.policy_tables import RAND_AUGMENT, SIGNED, strength, sub_policies
from mixlayers._core.plan.streams import stream

POLICIES = [
    AutoAugment(),
    AutoAugment("cifar10", fill=(1, 2, 3)),
    AutoAugment("svhn", interpolation="bilinear"),
    RandAugment(),
    RandAugment(3, 30, fill=128),
    TrivialAugmentWide(),
    TrivialAugmentWide(7, interpolation="bicubic"),
    RandomResizedCrop(224),
    RandomResizedCrop([32, 48], scale=[0.5, 1.0], ratio=[1.0, 1.0], interpolation="bicubic"),
    RandomHorizontalFlip(),
    Normalize([0.5], [0.25]),
    RandomErasing(),
    RandomErasing(1.0, value="rand", count=(1, 3)),
    RandomErasing(value=(1, 2.5, 3)),
    Cutout(16),
    Cutout(9, count=2, value="pixel"),
    RandAugment(np.int64(1), np.int64(4), np.int64(7)),
    RandomErasing(np.float64(0.5), np.array([0.1, 0.2]), value=np.float32(0.5), count=np.array([1, 2])),
    Compose([RandomResizedCrop(32), Compose([RandAugment()]), Normalize([0.5] * 3, [0.5] * 3), Cutout(8)]),
]
sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
seeds = st.integers(0, 2**32)
policies = pytest.mark.parametrize("policy", POLICIES, ids=repr)


@policies
def test_a_policy_is_a_value(policy):
    assert eval(repr(policy)) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(eval(repr(policy)))


@policies
def test_the_same_seed_draws_the_same_and_the_steps_are_values(policy):
    drawn = [policy.plan((40, 30), index=index, epoch=2, seed=3) for index in range(20)]
    assert drawn == [policy.plan((40, 30), index=np.int64(index), epoch=2, seed=3) for index in range(20)]
    assert drawn == [policy.draw(stream(3, index, 2, 3), (40, 30)) for index in range(20)]
    assert all(eval(repr(steps)) == steps for steps in drawn)
    if not isinstance(policy, Normalize):
        for other in ({"index": 100}, {"epoch": 3}, {"seed": 4}):
            where = {"index": 0, "epoch": 2, "seed": 3} | other
            start = where["index"]
            moved = [policy.plan((40, 30), **{**where, "index": start + index}) for index in range(20)]
            assert moved != drawn


def test_global_generators_are_left_alone():
    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002  # it is what must not move
    for policy in POLICIES:
        policy.plan((40, 30), index=0)
    assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002


@policies
@given(size=sizes, seed=seeds)
def test_every_image_size_is_legal_and_every_box_inside(policy, size, seed):
    now = size
    for step in policy.draw(np.random.default_rng(seed), size):
        if isinstance(step, Crop | Erase):
            assert step.top + step.height <= now[0] and step.left + step.width <= now[1]
        if isinstance(step, Operation) and RANGES[step.name] is not None:
            low, high = RANGES[step.name]
            assert low <= step.magnitude <= high and math.isfinite(step.magnitude)
        now = step.size_after(now)
    resized = {RandomResizedCrop: getattr(policy, "size", None), Compose: (32, 32)}
    assert now == resized.get(type(policy), size)


@pytest.mark.parametrize("wide", [False, True])
def test_strengths_rise_from_none_to_the_papers_largest(wide):
    largest = {
        "ShearX": (0.3, 0.99), "TranslateX": (150 / 331 * 200, 32.0), "TranslateY": (150 / 331 * 100, 32.0),
        "Rotate": (30.0, 135.0), "Color": (0.9, 0.99), "Posterize": (4.0, 2.0), "Solarize": (0.0, 0.0),
    }  # fmt: skip
    for name in RAND_AUGMENT:
        levels = [strength(name, level, 31, (100, 200), wide=wide) for level in range(31)]
        steps = np.diff(levels)
        assert (steps >= 0).all() if name in SIGNED else (steps <= 0).all()
        assert levels[0] == {"Posterize": 8.0, "Solarize": 255.0}.get(name, 0.0)
        if name in largest:
            assert levels[-1] == pytest.approx(largest[name][wide])


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_auto_augment_acts_as_often_as_its_table_says(policy):
    rng, acted = np.random.default_rng(0), Counter()
    for _ in range(6000):
        acted.update(step.name for step in AutoAugment(policy).draw(rng, (32, 32)))
    expected = Counter()
    for pair in sub_policies(policy):
        for name, probability, _ in pair:
            expected[name] += probability / 25 * 6000
    assert len(sub_policies(policy)) == 25 and all(len(pair) == 2 for pair in sub_policies(policy))
    for name, often in expected.items():
        assert abs(acted[name] - often) < 5 * math.sqrt(often) + 1e-9, name


def test_rand_augment_draws_all_operations_alike_and_both_signs():
    rng, signs, names = np.random.default_rng(0), Counter(), Counter()
    for _ in range(3500):
        steps = RandAugment(num_ops=2, magnitude=9).draw(rng, (100, 100))
        assert len(steps) == 2
        names.update(step.name for step in steps)
        signs.update(step.magnitude > 0 for step in steps if step.name in SIGNED)
        for step in steps:
            assert abs(step.magnitude) == strength(step.name, 9, 31, (100, 100))
    assert set(names) == set(RAND_AUGMENT)
    assert chisquare(list(names.values())).pvalue > 1e-3
    assert chisquare([signs[True], signs[False]]).pvalue > 1e-3


def test_trivial_augment_draws_one_operation_of_any_strength():
    rng, degrees = np.random.default_rng(0), []
    for _ in range(6000):
        (step,) = TrivialAugmentWide().draw(rng, (100, 100))
        if step.name == "Rotate":
            degrees.append(step.magnitude)
    assert kstest(degrees, "uniform", (-135 - 4.5 / 2, 270 + 4.5)).pvalue > 1e-3  # 61 levels, a bin wide each
    assert len(set(degrees)) == 61


def test_flips_fall_with_their_probability():
    rng = np.random.default_rng(0)
    flips = sum(len(RandomHorizontalFlip(0.3).draw(rng, (4, 4))) for _ in range(4000))
    assert abs(flips - 1200) < 5 * math.sqrt(4000 * 0.3 * 0.7)
    assert RandomHorizontalFlip(1.0).draw(rng, (4, 4)) == (Operation("HorizontalFlip"),)
    assert RandomHorizontalFlip(0.0).draw(rng, (4, 4)) == ()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: AutoAugment("mnist"), ValueError, r"'svhn', got 'mnist': for other data try TrivialAugmentWide"),
        (lambda: RandAugment(0), ValueError, r"num_ops must be in \[1, 1000\], got 0: leave the policy out"),
        (lambda: RandAugment(2, 31), ValueError, r"\[0, 30\], got 31: raise num_magnitude_bins"),
        (lambda: RandAugment(2, 9.5), TypeError, r"magnitude must be an integer, got 9.5"),
        (lambda: TrivialAugmentWide(1), ValueError, r"num_magnitude_bins must be in \[2, 65536\], got 1"),
        (lambda: RandAugment(fill=300), ValueError, r"fill must be in \[0, 255\], got 300"),
        (lambda: RandAugment(interpolation="lanczos"), ValueError, r"'bicubic', got 'lanczos'"),
        (lambda: RandomResizedCrop(0), ValueError, r"size must be in .* got 0: an image has a pixel at least"),
        (lambda: RandomResizedCrop((1, 2, 3)), ValueError, r"one side or \(height, width\), got \(1, 2, 3\)"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 1.5)), ValueError, r"scale must be two numbers .* got \(0.5, 1.5\)"),
        (lambda: RandomResizedCrop(8, ratio=(2, 1)), ValueError, r"ratio must be two .* in order .* got \(2.0, 1.0\)"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: Normalize([0.5], [0.0]), ValueError, r"std must be positive, got \(0.0,\)"),
        (lambda: Normalize([float("nan")], [0.5]), ValueError, r"mean must be finite, got \(nan,\)"),
        (lambda: Normalize([0.5], [0.5, 0.5]), ValueError, r"one value for each channel, got 1 and 2"),
        (lambda: RandomErasing(value="noise"), ValueError, r"'pixel', got 'noise'"),
        (lambda: RandomErasing(value=float("nan")), ValueError, r"value must be finite"),
        (lambda: RandomErasing(count=(3, 1)), ValueError, r"count must be \(fewest, most\), got \(3, 1\)"),
        (lambda: Cutout(0), ValueError, r"size must be in"),
        (lambda: Compose([len]), TypeError, r"Compose takes policies .* got <built-in function len>: call"),
        (lambda: Compose(RandAugment()), TypeError, r"Compose takes a list of policies, got RandAugment"),
        (lambda: Operation("Blur"), ValueError, r"HorizontalFlip, got 'Blur'"),
        (lambda: Operation("Rotate", 200.0), ValueError, r"Rotate must be in \[-180, 180\], got 200"),
        (lambda: Operation("Rotate", float("nan")), ValueError, r"Rotate must be in \[-180, 180\], got nan"),
        (lambda: Operation("Invert", 1.0), ValueError, r"Invert takes no magnitude, got 1.0: leave it out"),
        (lambda: Operation("Posterize", 2.5), ValueError, r"whole number of bits, 1 to 8, got 2.5"),
        (lambda: RandAugment().plan((8, 8), index=-1), ValueError, r"index must be in .* got -1"),
        (lambda: RandAugment().plan((8, 8), index=0.5), TypeError, r"index must be an integer, got 0.5"),
        (lambda: Cutout(2).plan((0, 8), index=0), ValueError, r"size must be in .* got 0"),
    ],
)  # fmt: skip
def test_errors_say_the_rule_the_value_and_the_way_out(make, error, says):
    with pytest.raises(error, match=says):
        make()
