"""Plans: pure functions of their address, replayable, and honest about the share."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlayers import CutMix, ManifoldMixup, MixPlan, Mixup, PatchUp
from mixlayers._core.plan.plan import FORMAT, joint_share
from tests.support.reference import partner_share

methods = st.sampled_from(
    [
        Mixup(lam_per="sample"),
        ManifoldMixup(),
        CutMix(),
        CutMix(lam_per="sample"),
        CutMix(lam_per="pair"),
        PatchUp("hard"),
        PatchUp("hard", block_size=4),
        PatchUp("soft", lam_per="sample", block_size=1),
        PatchUp("soft", portion=0.4),
    ]
)
shapes = st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple)


@given(methods, shapes, st.integers(0, 1000), st.sampled_from([1, -1]), st.sampled_from(["input", "layer"]))
def test_the_share_is_the_masks_real_share(method, shape, step, channel_dim, place):
    plan = method.plan(step=step, batch_size=shape[0], places=(place,))
    spatial = shape[2:] if channel_dim == 1 else shape[1:-1]
    if type(plan.recipe).__name__ == "Box" and max(spatial, default=0) <= 2:
        with pytest.raises(ValueError, match="at least one spatial axis"):
            plan.blend(shape, channel_dim)
        return
    how = plan.blend(shape, channel_dim)
    assert np.allclose(how.s, partner_share(shape, how.lam, how.mask), atol=1e-6)
    assert np.all((np.asarray(how.s) >= 0) & (np.asarray(how.s) <= 1))
    if how.box is not None:
        inside = np.zeros(shape, dtype=bool)
        inside[how.box] = True
        assert np.array_equal(inside, np.broadcast_to(how.mask, shape))


@given(methods, shapes.filter(lambda shape: max(shape[2:], default=0) > 2), st.integers(0, 1000))
def test_json_replays_the_step(method, shape, step):
    plan = method.plan(step=step, batch_size=shape[0], places=("a", "b"), seed=7, rank=3)
    again = MixPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.to_dict() == plan.to_dict()
    first, second = plan.blend(shape), again.blend(shape)
    assert np.array_equal(first.mask, second.mask) and np.array_equal(first.s, second.s)
    assert first.box == second.box and np.array_equal(first.perm, second.perm)


def test_channels_last_is_the_same_mask_moved():
    plan = PatchUp().plan(step=2, batch_size=2, places=("a",))
    first, last = plan.blend((2, 3, 8, 9)).mask, plan.blend((2, 8, 9, 3), channel_dim=-1).mask
    assert np.array_equal(np.moveaxis(first, 1, -1), last)


def test_plans_differ_by_seed_rank_and_step_only():
    def key(**kwargs):
        return json.dumps(Mixup().plan(**{"step": 0, "batch_size": 9, **kwargs}).to_dict()["perm"])

    assert key() == key()
    assert len({key(), key(step=1), key(rank=1), key(seed=1)}) == 4


def test_nominal_share_on_request():
    plan = CutMix(correct_lam=False).plan(step=3, batch_size=4)
    assert plan.blend((4, 3, 5, 5)).s == pytest.approx(1.0 - plan.recipe.lam)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}, this version of mixlayers reads format {FORMAT}"),
        ({}, "not a plan"),
        ([1], "not a plan"),
        ({"format": FORMAT}, "not a whole plan"),
        ({**Mixup().plan(step=0, batch_size=2).to_dict(), "perm": [0, 0]}, "perm must be a permutation"),
        ({**Mixup().plan(step=0, batch_size=2).to_dict(), "recipe": {"kind": "Cloud"}}, "not a whole plan"),
        *(
            ({**Mixup().plan(step=0, batch_size=2).to_dict(), **wrong}, says)
            for wrong, says in (
                ({"lam": "a"}, "not a whole plan.*lam must be a number"),
                ({"lam": None}, "not a whole plan"),
                ({"lam": float("nan")}, r"lam must be in \[0, 1\], got nan"),
                ({"lam": 5.0}, r"lam must be in \[0, 1\], got 5.0"),
                ({"lam": [0.5, 0.5, 0.5]}, r"one for each of 2 samples, got shape \(3,\)"),
                ({"step": -1}, "step must be in .*, got -1"),
                ({"step": 1.5}, "step must be an integer, got 1.5"),
                ({"perm": [0.2, 1]}, "perm must be an integer, got 0.2"),
                ({"loss_scale": 0.0}, "loss_scale must be > 0"),
                ({"recipe": {"kind": "Box", "lam": -0.5}}, r"lam must be in \[0, 1\], got -0.5"),
            )
        ),
    ],
)
def test_a_foreign_dict_is_refused_with_the_reason(data, says):
    with pytest.raises(ValueError, match=says):
        MixPlan.from_dict(data)


def test_the_shape_must_fit_the_plan():
    plan = PatchUp().plan(step=0, batch_size=4, places=("a",))
    with pytest.raises(ValueError, match="batch of 4, got a feature of shape"):
        plan.blend((3, 2, 8, 8))
    with pytest.raises(ValueError, match="channel_dim must be 1 or -1, got 2"):
        plan.blend((4, 2, 8, 8), channel_dim=2)
    with pytest.raises(ValueError, match=r"shape \(N, C, ...\), got shape \(4,\)"):
        plan.blend((4,))


def test_several_features_share_by_their_elements():
    assert joint_share([(0.5, (2, 3)), (0.1, (2, 1))]) == pytest.approx(0.4)
    assert joint_share([(0.3, 7)]) == 0.3
    assert joint_share([(0.5, (2, 0)), (0.1, (2, 0))]) == pytest.approx(0.3)


@pytest.mark.parametrize("spatial", [(8, 8), (4, 4), (32, 32), (3, 5), (12, 20), (1, 1)])
@pytest.mark.parametrize("method", [CutMix(), CutMix(lam_per="sample"), PatchUp("soft", block_size=3)])
def test_labels_have_the_mean_of_the_mask_over_their_part_of_the_feature(method, spatial):
    """By counting on a grid that both resolutions divide."""
    plan = method.plan(step=4, batch_size=3, places=("a",))
    how, (rows, columns) = plan.blend((3, 2, 8, 8)), spatial
    w = (how.mask * (1.0 - plan.lam)).mean(1)
    fine = w.repeat(rows, 1).repeat(columns, 2)
    expected = fine.reshape(len(w), rows, 8, columns, 8).mean((2, 4))
    found = plan.share_map((3, 2, 8, 8), spatial)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.mean((1, 2)), how.s, atol=1e-6)


@dataclass(frozen=True)
class Above:
    """A mask as docs/extending.md asks for it."""

    masked = True
    labels_stay = False

    rows: int

    def draw(self, rng, channels, spatial):
        mask = np.zeros((1, 1, *spatial), dtype=bool)
        mask[:, :, : self.rows] = True
        return mask, None


@dataclass(frozen=True, repr=False)
class Upper(Mixup):
    """The partner's upper rows, at lam."""

    def draw(self, rng, perm, place):
        return 0.25, Above(2)


@pytest.mark.parametrize("channel_dim", [1, -1])
def test_a_mask_of_ones_own_is_drawn_and_counted(channel_dim):
    plan = Upper().plan(step=1, batch_size=4)
    shape = (4, 3, 8, 6) if channel_dim == 1 else (4, 8, 6, 3)
    how = plan.blend(shape, channel_dim)
    rows = np.moveaxis(np.broadcast_to(how.mask, shape), 2 if channel_dim == 1 else 1, 0)
    assert plan.masked and rows[:2].all() and not rows[2:].any()
    assert how.s == pytest.approx(0.75 * 2 / 8)
