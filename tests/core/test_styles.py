"""Styles: what their statistics are over, where no deviation is, and what a step does at several places."""

import json

import numpy as np
import pytest

from mixlayers import DSU, DropBlock, Halves, ManifoldMixup, MixPlan, MixStyle, MoEx, OneOf, PAdaIN, Scheduled
from mixlayers._core.batch.carry import carry_out
from mixlayers._core.framework.numpy_arrays import NUMPY
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.styles import Styled
from tests.support import reference

SHAPE = (5, 4, 6, 7)
EACH = [
    Styled("space", 1e-6),
    Styled("channels", 1e-6),
    Styled("frequency", 1e-6),
    Styled("all", 1e-6),
    Styled(2, 1e-6),
]


def restyled(recipe, x, perm, lam, last=False):
    how = recipe.draw(np.random.default_rng(0), Feature(perm, lam, x.shape, last))
    return carry_out(NUMPY, x, how, NUMPY.partners(perm)), how


@pytest.mark.parametrize("recipe", EACH, ids=repr)
def test_statistics_are_over_what_they_say_in_either_layout(recipe):
    rng = np.random.default_rng(0)
    x, perm, lam = rng.normal(2.0, 3.0, SHAPE), rng.permutation(5), rng.random(5).astype(np.float32)
    found, _ = restyled(recipe, x, perm, lam)
    seen = x.reshape(5, 2, 2, 6, 7) if recipe.over == 2 else x
    axes = {"space": (2, 3), "channels": (1,), "frequency": (1, 3), "all": (1, 2, 3), 2: (2, 3, 4)}[
        recipe.over
    ]
    mean, sd = reference.moments(seen, axes, 1e-6)
    keep = lam.reshape(5, *(1,) * (seen.ndim - 1)).astype(np.float64)
    new = keep * mean + (1 - keep) * mean[perm], keep * sd + (1 - keep) * sd[perm]
    np.testing.assert_allclose(found, reference.restyle(seen, axes, 1e-6, new).reshape(SHAPE), atol=1e-12)
    last, _ = restyled(recipe, np.moveaxis(x, 1, -1), perm, lam, last=True)
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), found, atol=1e-12)
    np.testing.assert_allclose(found.reshape(seen.shape).mean(axes, keepdims=True), new[0], atol=1e-12)


@pytest.mark.parametrize("recipe", EACH, ids=repr)
def test_lam_1_and_oneself_as_a_partner_change_nothing(recipe):
    x = np.random.default_rng(1).normal(2.0, 3.0, SHAPE)
    own = np.arange(5)
    np.testing.assert_allclose(restyled(recipe, x, own[::-1], 1.0)[0], x, atol=1e-12)
    np.testing.assert_allclose(restyled(recipe, x, own, 0.0)[0], x, atol=1e-12)
    np.testing.assert_allclose(restyled(recipe, x, own, 0.3)[0], x, atol=1e-12)


def test_moexs_mean_is_the_partners():
    x = np.random.default_rng(2).normal(2.0, 3.0, SHAPE)
    plan = MoEx(over="space").plan(step=1, batch_size=5, places=("a",))
    found = carry_out(NUMPY, x, plan.blend(SHAPE), NUMPY.partners(plan.perm))
    np.testing.assert_allclose(found.mean((2, 3)), x.mean((2, 3))[plan.perm], atol=1e-12)
    assert plan.blend(SHAPE).s == 0.5 and plan.mixes and not plan.masked
    assert MoEx(0.9).plan(step=1, batch_size=5).blend(SHAPE).s == pytest.approx(0.1)


def test_dsu_moves_statistics_by_their_own_deviation_over_the_batch():
    x = np.random.default_rng(3).normal(2.0, 3.0, (64, 2, 9, 9)) * np.linspace(1, 5, 64).reshape(64, 1, 1, 1)
    mean, sd = reference.moments(x, (2, 3), 1e-6)
    moved = []
    for step in range(200):
        plan = DSU(prob=1.0).plan(step=step, batch_size=64, places=("a",))
        found = carry_out(NUMPY, x, plan.blend(x.shape), NUMPY.partners(plan.perm))
        moved.append((found.mean((2, 3)) - mean[..., 0, 0], found.std((2, 3), ddof=1) - sd[..., 0, 0]))
    spread = np.std([m for m, _ in moved], axis=(0, 1))
    np.testing.assert_allclose(spread, mean.std(0, ddof=1)[:, 0, 0], rtol=0.03)
    assert not plan.mixes and plan.perm.tolist() == list(range(64))
    with pytest.raises(ValueError, match="needs two samples, got 1"):
        DSU(prob=1.0).plan(step=0, batch_size=1, places=("a",)).blend((1, 2, 9, 9))


@pytest.mark.parametrize(
    ("method", "shape"),
    [
        (MixStyle(prob=1.0), (4, 3)),
        (MixStyle(prob=1.0), (4, 3, 1, 1)),
        (MoEx(), (4, 1, 5)),
        (PAdaIN(prob=1.0), (4, 3, 1)),
    ],
    ids=str,
)
def test_a_deviation_of_one_number_is_refused(method, shape):
    plan = method.plan(step=0, batch_size=4, places=("a",))
    with pytest.raises(ValueError, match="would be of 1 number each, which has no deviation"):
        plan.blend(shape)
    with pytest.raises(ValueError, match="need spectrograms"):
        MixStyle(over="frequency", prob=1.0).plan(step=0, batch_size=4, places=("a",)).blend((4, 3, 8))


@pytest.mark.parametrize(
    "method", [MixStyle(), DSU(), PAdaIN(prob=0.3), DropBlock(every_place=True, prob=0.5)], ids=repr
)
def test_each_place_has_its_own_chance_and_its_own_draws(method):
    places = ("a", "b", "c")
    plans = [method.plan(step=step, batch_size=6, places=places, seed=1) for step in range(600)]
    for place in places:
        acts = np.mean([plan.at(place) is not None for plan in plans])
        assert abs(acts - method.prob) < 0.07
    both = np.mean([plan.at("a") is not None and plan.at("b") is not None for plan in plans])
    assert abs(both - method.prob**2) < 0.07
    several = next(plan for plan in plans if len(plan.places) == 3)
    parts = [several.at(place) for place in places]
    assert len({part.number for part in parts}) == 3
    if method.has_partners:
        assert len({tuple(part.perm) for part in parts}) > 1
    again = MixPlan.from_dict(json.loads(json.dumps(several.to_dict())))
    assert again.to_dict() == several.to_dict() and again.places == places
    shape = (6, 2, 8, 8)
    if isinstance(method, DropBlock | DSU):
        drawn = [
            getattr(part.blend(shape), "mask" if isinstance(method, DropBlock) else "noise") for part in parts
        ]
        assert not np.array_equal(drawn[0], drawn[1])
    for part in parts:
        assert again.at(part.place).blend(shape) == part.blend(shape)


def test_one_place_on_request_and_inside_other_methods():
    drawn = [
        MixStyle(every_place=False, prob=1.0).plan(step=s, batch_size=4, places=("a", "b"))
        for s in range(200)
    ]
    assert {plan.places for plan in drawn} == {("a",), ("b",)}
    either = OneOf({MixStyle(prob=1.0): 1, ManifoldMixup(): 1})
    kinds = [either.plan(step=step, batch_size=4, places=("a", "b")) for step in range(200)]
    assert {len(plan.places) for plan in kinds} == {1, 2}
    assert all(plan.mixes == (len(plan.places) == 1) for plan in kinds)
    scheduled = Scheduled(MixStyle(prob=1.0), start=5)
    assert not scheduled.plan(step=4, batch_size=4, places=("a",)).places
    assert scheduled.plan(step=5, batch_size=4, places=("a",)).places == ("a",)
    assert not MixStyle().mixes_labels and MoEx().mixes_labels


def test_across_domains_each_half_gets_the_others_statistics():
    x = np.concatenate([np.random.default_rng(0).normal(0.0, 1.0, (4, 2, 5, 5)), np.full((4, 2, 5, 5), 9.0)])
    plan = MixStyle(prob=1.0, pairs=Halves()).plan(step=0, batch_size=8, places=("a",))
    found = carry_out(NUMPY, x, plan.blend(x.shape), NUMPY.partners(plan.perm))
    lam = plan.lam.reshape(8, 1)
    mean = x.mean((2, 3))
    np.testing.assert_allclose(
        found.mean((2, 3))[:4], (lam * mean + (1 - lam) * mean[plan.perm])[:4], atol=1e-6
    )
    assert ((plan.perm < 4) == (np.arange(8) >= 4)).all()
