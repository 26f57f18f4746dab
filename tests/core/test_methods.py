"""Methods: validated, readable, and drawing what they say."""

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, Mixup, OneOf, PatchUp, Scheduled
from mixlayers.presets import PRESETS

METHODS = [
    Mixup(),
    Mixup(0.2, lam_per="pair", prob=0.5),
    CutMix(lam_per="sample", correct_lam=False),
    ManifoldMixup(pairs="derangement"),
    PatchUp(),
    PatchUp("soft", lam_per="sample"),
    PatchUp("hard", portion=0.3, block_size=3, loss_scale=2.0),
    OneOf({Mixup(0.8): 1.0, OneOf({CutMix(): 1.0}): 2.0}, prob=0.9),
    Scheduled(CutMix(), start=2, stop=9, warmup=3),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_repr_is_the_method(method):
    assert eval(repr(method)) == method
    assert hash(eval(repr(method))) == hash(method)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Mixup(0.0), r"alpha must be > 0 and finite, got 0.0"),
        (lambda: ManifoldMixup(-1.0), r"alpha must be > 0"),
        (lambda: CutMix(float("inf")), r"alpha must be > 0"),
        (lambda: Mixup(float("nan")), r"alpha must be > 0"),
        (lambda: PatchUp(gamma=0.0), r"gamma must be in \(0, 1\], got 0.0"),
        (lambda: PatchUp(gamma=1.5), r"gamma must be in \(0, 1\], got 1.5"),
        (lambda: PatchUp(portion=1.0), r"portion must be in \(0, 1\), got 1.0"),
        (lambda: PatchUp(gamma=0.5, portion=0.5), r"gamma or portion, not both"),
        (lambda: PatchUp("medium"), r"'hard' or 'soft', got 'medium'"),
        (lambda: PatchUp(block_size=0), r"block_size must be a whole number of at least 1, got 0"),
        (lambda: PatchUp(loss_scale=0.0), r"loss_scale must be > 0"),
        (lambda: Mixup(prob=0.0), r"prob must be in \(0, 1\], got 0.0"),
        (lambda: Mixup(lam_per="image"), r"lam_per must be one of 'batch', 'pair', 'sample', got 'image'"),
        (lambda: Mixup(pairs="all"), r"pairs must be one of .*, got 'all'"),
        (lambda: Mixup(pairs="same_class", lam_per="pair"), r"lam_per='sample'"),
        (lambda: OneOf({}), r"at least one method"),
        (lambda: OneOf({Mixup(): 0.0}), r"weight must be > 0, got 0.0"),
        (lambda: Scheduled(Mixup(), start=4, stop=4), r"stop must be after start"),
        (lambda: Scheduled(Mixup(), start=-1), r"start and warmup must be >= 0"),
        (lambda: Mixup().plan(step=0, batch_size=0), r"batch_size must be at least 1, got 0"),
        (lambda: Mixup().plan(step=-1, batch_size=2), r"step must be in .*, got -1"),
    ],
)
def test_wrong_arguments_say_the_rule_and_the_value(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("make", [lambda: OneOf({"mixup": 1.0}), lambda: Scheduled("mixup")])
def test_wrong_kinds_are_type_errors(make):
    with pytest.raises(TypeError, match=r"such as Mixup\(\), got 'mixup'"):
        make()


def plans(method, steps, **kwargs):
    return [method.plan(step=step, batch_size=6, **kwargs) for step in range(steps)]


def test_places_are_drawn_uniformly_and_input_methods_stay_at_the_input():
    drawn = [plan.place for plan in plans(ManifoldMixup(), 3000, places=("input", "a", "b"))]
    assert all(abs(drawn.count(place) / 3000 - 1 / 3) < 0.03 for place in ("input", "a", "b"))
    assert {plan.place for plan in plans(CutMix(), 20, places=("a",))} == {"input"}


def test_prob_and_weights_are_met():
    method = OneOf({Mixup(): 1.0, CutMix(): 3.0}, prob=0.8)
    drawn = [(plan.place is not None, plan.method) for plan in plans(method, 4000)]
    mixed = [name for acts, name in drawn if acts]
    assert abs(len(mixed) / 4000 - 0.8) < 0.02
    assert abs(mixed.count(repr(CutMix())) / len(mixed) - 0.75) < 0.03


def test_lam_follows_the_beta_law():
    lam = np.array([plan.lam for plan in plans(Mixup(2.0), 4000)])
    assert abs(lam.mean() - 0.5) < 0.01 and abs(lam.var() - 1 / 20) < 0.003
    per_sample = Mixup(0.5, lam_per="sample").plan(step=0, batch_size=20000).lam
    assert per_sample.dtype == np.float32 and abs(per_sample.var() - 1 / 8) < 0.005


def test_lam_is_a_python_float_or_float32():
    assert all(
        type(plan.lam) is float and type(plan.blend((6, 3, 8, 8)).s) is float for plan in plans(CutMix(), 5)
    )
    pair = Mixup(lam_per="pair").plan(step=1, batch_size=7)
    assert np.array_equal(pair.lam, pair.lam[pair.perm])
    assert pair.lam.dtype == pair.blend((7, 3)).s.dtype == np.float32


def test_a_schedule_is_off_outside_its_steps_and_warms_up():
    method = Scheduled(Mixup(), start=10, stop=2010, warmup=1000)
    acts = np.array([plan.place is not None for plan in plans(method, 2020)])
    assert not acts[:10].any() and not acts[2010:].any() and acts[1010:2010].all()
    assert 0.4 < acts[10:1010].mean() < 0.6


def test_patchup_is_cutmix_at_the_input_and_blocks_elsewhere():
    for plan in plans(PatchUp("soft"), 30, places=("input", "a")):
        assert type(plan.recipe).__name__ == ("Box" if plan.place == "input" else "Blocks")
        assert (plan.lam == 0.0) == (plan.place == "input")


def test_presets_are_whole():
    for name, preset in PRESETS.items():
        assert preset.source and preset.layers, name
        assert eval(repr(preset.method)) == preset.method
    assert PRESETS["patchup-hard-cifar"].method == PatchUp("hard", gamma=0.5, prob=0.7, loss_scale=2.0)
