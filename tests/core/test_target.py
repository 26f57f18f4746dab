"""Targets: blended alike for every loss, refused where a blend would be wrong."""

import numpy as np
import pytest

from mixlayers import MixedTarget, MixingError, Mixup

PLAN = Mixup().plan(step=0, batch_size=3)
PER_SAMPLE = Mixup(lam_per="sample").plan(step=0, batch_size=3)
Y = np.array([0, 1, 2])


def test_blend_is_the_share_weighted_mean():
    target = MixedTarget(Y, Y[PLAN.perm], 0.25, PLAN)
    assert np.allclose(target.blend(lambda y: y * 1.0), 0.75 * Y + 0.25 * Y[PLAN.perm])
    assert (target.s, target.lam, target.layer, target.mixed) == (0.25, 0.75, "input", True)


@pytest.mark.parametrize("s", [0.25, np.array([0.0, 0.5, 1.0], dtype=np.float32)], ids=["batch", "sample"])
def test_what_a_loss_returns_beside_its_values_stays(s):
    """As transformers' outputs do: a name, a count, a part that there is none of."""
    target = MixedTarget(Y, Y[[1, 2, 0]], s, PLAN if isinstance(s, float) else PER_SAMPLE)
    found = target.blend(
        lambda y: {"loss": y * 1.0, "name": "entropy", "count": 3, "none": None, "flag": True}
    )
    np.testing.assert_allclose(found.pop("loss"), (1 - s) * Y + s * Y[[1, 2, 0]])
    assert found == {"name": "entropy", "count": 3, "none": None, "flag": True}
    assert type(found["count"]) is int and found["flag"] is True


def test_a_clean_target_calls_once():
    calls = []
    clean = MixedTarget(Y)
    assert clean.blend(lambda y: calls.append(1) or 5.0) == 5.0
    assert (calls, clean.s, clean.lam, clean.layer, clean.partner is Y) == ([1], 0.0, 1.0, None, True)


def test_per_sample_shares_need_one_value_per_sample():
    s = np.array([0.0, 0.5, 1.0], dtype=np.float32)
    target = MixedTarget(Y, Y[[1, 2, 0]], s, PER_SAMPLE)
    assert np.allclose(target.blend(lambda y: y * 1.0), [0, 1.5, 0])
    assert target.blend(lambda y: np.stack([y, y], 1)).shape == (3, 2)
    with pytest.raises(ValueError, match='reduction="none"'):
        target.blend(lambda y: y.mean())
    with pytest.raises(ValueError, match=r"shape \(3, ...\), got shape \(2,\)"):
        target.blend(lambda y: y[:2])


def test_use_is_noticed():
    def fresh():
        return MixedTarget(Y, Y, 0.5, PLAN)

    for use in (lambda t: t.blend(np.sum), lambda t: t.partner):
        target = fresh()
        use(target)
        assert target.used
    logged = fresh()
    assert logged.lam and logged.s and logged.layer and repr(logged) and not logged.used


def test_an_unsettled_target_says_when_it_is_known():
    target = MixedTarget(Y, s=None)
    for use in (lambda: target.s, lambda: target.lam, lambda: target.blend(np.sum)):
        with pytest.raises(MixingError, match="call the model first"):
            use()
    assert "unknown" in repr(target)


def test_soft_needs_a_backend_and_a_valid_smoothing():
    with pytest.raises(TypeError, match="no one-hot form"):
        MixedTarget(Y).soft(3)
    with pytest.raises(ValueError, match="smoothing must be in"):
        MixedTarget(Y, one_hot=lambda y, k: np.eye(k)[y]).soft(3, smoothing=1.0)

    def one_hot(y, k, smoothing):
        return (1 - smoothing) * np.eye(k)[y] + smoothing / k

    target = MixedTarget(Y, Y[[1, 2, 0]], 0.25, PLAN, one_hot=one_hot)
    assert np.allclose(target.soft(3, smoothing=0.1).sum(1), 1.0)
