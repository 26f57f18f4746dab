"""Methods: validated, readable, and drawing what they say."""

import json

import numpy as np
import pytest

from mixlayers import (
    DSU,
    Across,
    AlignMixup,
    Apart,
    Beside,
    CutMix,
    DropBlock,
    FMix,
    GMix,
    Halves,
    HMix,
    ManifoldMixup,
    MixStyle,
    Mixup,
    MoEx,
    Near,
    NoisyFeatureMixup,
    OneOf,
    PAdaIN,
    PatchUp,
    Remix,
    ResizeMix,
    Scheduled,
    SpecMix,
)
from mixlayers._core.plan.streams import stream
from mixlayers.augment import RandAugment
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
    Mixup(fold=True, pairs=Halves()),
    ManifoldMixup(2.0, lam_per="sample", pairs=Across("same", "different")),
    CutMix(axes=(-1,)),
    FMix(decay=2.0, max_soft=0.1),
    HMix(ratio=1.0, prob=0.5),
    GMix(lam_per="sample"),
    ResizeMix((0.2, 0.5)),
    SpecMix(2, 0.1),
    Remix(PatchUp(prob=0.5), (5, 0, 20), tau=0.3),
    Beside(ManifoldMixup(20.0, lam_per="sample")),
    MixStyle(),
    MixStyle(0.4, "frequency", prob=0.4, fold=True, pairs=Halves(), every_place=False),
    DSU(prob=0.3),
    PAdaIN(),
    MoEx(0.9, 4, prob=1.0),
    DropBlock(0.2, every_place=True),
    NoisyFeatureMixup(add=0.1, multiply=0.1, fold=True),
    AlignMixup(rounds=20, lam_per="sample"),
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
        (lambda: Scheduled(Mixup(), start=-1, stop=3), r"start and warmup must be >= 0"),
        (lambda: Mixup(1e308), r"alpha must be > 0 and finite, got 1e\+308"),
        (lambda: Mixup().plan(step=2**64, batch_size=2), r"step must be in .*, got 18446744073709551616"),
        (lambda: Mixup().plan(step=-1, batch_size=2), r"step must be in .*, got -1"),
        (lambda: CutMix(axes=()), r"at least, each once, got \(\)"),
        (lambda: CutMix(axes=(0, 0)), r"each once, got \(0, 0\)"),
        (
            lambda: CutMix(axes=(2,)).plan(step=0, batch_size=2).blend((2, 3, 8, 8)),
            r"among the 2 spatial ones",
        ),
        (lambda: FMix(lam_per="sample"), r"one mask for the whole batch, as published, got lam_per='sample'"),
        (lambda: FMix(decay=0.0), r"decay must be in \(0, 100\), got 0.0"),
        (lambda: FMix(max_soft=0.6), r"max_soft must be in \[0, 0.5\], got 0.6"),
        (lambda: FMix().plan(step=0, batch_size=2).blend((2, 3)), r"FMix needs a feature with spatial axes"),
        (lambda: GMix().plan(step=0, batch_size=2).blend((2, 3)), r"GMix needs a feature with spatial axes"),
        (lambda: HMix(ratio=0.0), r"ratio must be in \(0, 1\], got 0.0: for 0 use Mixup"),
        (lambda: ResizeMix((0.5, 0.2)), r"the smaller first, got \(0.5, 0.2\)"),
        (lambda: ResizeMix().plan(step=0, batch_size=2).blend((2, 3)), r"ResizeMix needs images or series"),
        (lambda: SpecMix(width=1.0), r"width must be in \(0, 1\), got 1.0"),
        (
            lambda: SpecMix().plan(step=0, batch_size=2).blend((2, 3, 8)),
            r"needs spectrograms .* got 1 spatial axes",
        ),
        (lambda: Remix(Mixup(), (5,)), r"counts must be a number >= 0 for each of two classes"),
        (lambda: Remix(Mixup(), (5, -1)), r"counts must be a number >= 0"),
        (lambda: Remix(Mixup(), (5, 1), k=1.0), r"k must be > 1 and finite, got 1.0"),
        (lambda: Remix(Mixup(), (5, 1), tau=0.0), r"tau must be in \(0, 1\], got 0.0"),
        (lambda: Remix(Mixup(), (5, 1), prob=0.5), r"give prob to the method inside, got prob=0.5 for Remix"),
        (
            lambda: Remix(Mixup(), (5, 1)).plan(step=0, batch_size=2),
            r"Remix compares how frequent classes are",
        ),
        (
            lambda: Remix(Mixup(), (5, 0)).plan(step=0, batch_size=2, labels=np.array([1, 2])),
            r"no count, or one of 0, for the labels \[1, 2\]",
        ),
        (lambda: MixStyle(over="all"), r"over must be 'space' or 'frequency', got 'all'"),
        (lambda: NoisyFeatureMixup(add=-0.1), r"add must be >= 0 and finite, got -0.1"),
        (lambda: AlignMixup(eps=0.0), r"eps must be > 0 and finite, got 0.0"),
        (lambda: AlignMixup(rounds=0), r"rounds must be in .*, got 0"),
        (lambda: AlignMixup().plan(step=0, batch_size=2, places="a").blend((2, 3)), r"AlignMixup needs maps"),
        (lambda: MixStyle(0.0), r"alpha must be > 0"),
        (lambda: MoEx(1.0), r"lam must be in \(0, 1\), got 1.0"),
        (
            lambda: MoEx(over="time"),
            r"over must be 'channels', 'space', 'all' or a number of groups, got 'time'",
        ),
        (lambda: MoEx(over=0), r"over must be in .*, got 0: it is a number of groups"),
        (
            lambda: MoEx(over=2).plan(step=0, batch_size=2).blend((2, 3, 4, 4)),
            r"3 channels are no 2 groups of one size",
        ),
        (lambda: MoEx(lam_per="sample"), r"one share for the whole batch"),
        (lambda: DSU(pairs="derangement"), r"DSU has no partners, got pairs='derangement'"),
        (lambda: Beside(Mixup()).plan(step=0, batch_size=3), r"needs an even batch, .* got 3 samples"),
        (lambda: Beside(ResizeMix()), r"leaves its first half clean.*ResizeMix\(.* changes those too"),
        (lambda: Beside(NoisyFeatureMixup()), r"leaves its first half clean"),
        (lambda: Beside(AlignMixup()), r"leaves its first half clean"),
        (lambda: Beside(Remix(ResizeMix(), (1, 2))), r"leaves its first half clean"),
        (lambda: Across("same", "same"), r"one the same and one different, got 'same' for both"),
        (lambda: Across("any"), r"domain must be 'same' or 'different', got 'any'"),
        (lambda: Mixup(pairs=Across()).plan(step=0, batch_size=2), r'target=\{"label": y, "domain": d\}'),
        (lambda: Mixup(pairs=Halves(), lam_per="pair"), r"which pairs=Halves\(shuffle=True\) cannot promise"),
    ],
)
def test_wrong_arguments_say_the_rule_and_the_value(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Scheduled(Mixup(), stop=0.9), "stop must be an integer, got 0.9"),
        (lambda: Scheduled(Mixup(), start=1.5), "start must be an integer, got 1.5"),
        (lambda: Scheduled(Mixup(), warmup=1.5), "warmup must be an integer, got 1.5"),
        (lambda: Mixup().plan(step=1.0, batch_size=2), "step must be an integer, got 1.0"),
        (lambda: Mixup().plan(step=0, seed=0.5, batch_size=2), "seed must be an integer, got 0.5"),
        (lambda: Mixup().plan(step=0, rank=True, batch_size=2), "rank must be an integer, got True"),
        (lambda: Mixup().plan(step=0, batch_size=2.5), "batch_size must be an integer, got 2.5"),
        (lambda: OneOf(Mixup()), r"a list of methods, got Mixup"),
        (lambda: OneOf(3), "a list of methods, got 3"),
        (lambda: stream(0, 0, 1.5), "step must be an integer, got 1.5"),
        (lambda: Remix(OneOf([Mixup()]), (1, 2)), r"Remix takes one method that mixes labels.*got OneOf"),
        (lambda: Beside(DropBlock()), r"Beside takes one method that mixes labels.*got DropBlock"),
        (lambda: Halves(1), "shuffle must be True or False, got 1"),
        (lambda: CutMix(axes=(0.5,)), "axes must be an integer, got 0.5"),
    ],
)
def test_numbers_that_are_no_integers_are_type_errors(make, says):
    with pytest.raises(TypeError, match=says):
        make()


def test_numpys_numbers_are_pythons():
    """So that plans are JSON and reprs evaluate; a whole float is a whole number."""
    for method in (
        PatchUp(block_size=5.0),
        PatchUp(gamma=np.float32(0.5), block_size=np.int64(3)),
        Mixup(np.float64(0.5), prob=np.float32(0.25), pairs=Apart(np.int64(1))),
        Mixup(pairs=Near("label", np.float32(0.5))),
        Scheduled(Mixup(), start=np.int64(0), stop=np.int32(9)),
        OneOf({Mixup(): np.float32(0.5), CutMix(): np.int64(1)}, prob=np.float64(0.5)),
    ):
        assert eval(repr(method)) == method, repr(method)
        near = {"label": np.arange(6)}
        plan = method.plan(
            step=np.int64(3), batch_size=np.int64(6), seed=np.uint8(1), rank=np.int32(0), near=near
        )
        json.dumps(plan.to_dict())
        assert type(plan.step) is int
        plan.blend((6, 3, 8, 8))


def test_a_list_of_methods_weighs_them_alike():
    assert OneOf([Mixup(), CutMix()]) == OneOf({Mixup(): 1, CutMix(): 1})
    assert OneOf([Mixup(), CutMix(), Mixup()]) == OneOf({Mixup(): 2, CutMix(): 1})
    with pytest.raises(ValueError, match="at least one method"):
        OneOf([])


def test_the_order_of_methods_is_a_part_of_oneof():
    """Which draws by it: two that are equal draw the same methods."""
    one, other = OneOf({Mixup(): 1, CutMix(): 1}), OneOf({CutMix(): 1, Mixup(): 1})
    assert one != other
    assert [plan.method for plan in plans(one, 20)] != [plan.method for plan in plans(other, 20)]


def test_streams_of_large_numbers_are_their_own():
    """A step, rank or image index of 2**63 and more once made the counter float64: 2**11 neighbours were one."""
    large = 2**63
    for name in ("step", "rank", "seed"):
        at = {"seed": 0, "rank": 0, "step": 0}
        drawn = [stream(**{**at, name: large + k}).random() for k in (0, 1, 2, 500, 2**63 - 1)]
        assert len(set(drawn)) == 5
    policy = RandAugment(4)
    first, second = (policy.plan((64, 64), index=large + k, epoch=0) for k in (1, 500))
    assert first != second
    assert (
        stream(1, 2, 3).random()
        == np.random.Generator(np.random.Philox(key=1, counter=[0, 0, 3, 2])).random()
    )


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
