"""Laws of methods around another one: Remix's labels, Beside's clean half; and `fold`."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlayers import Beside, CutMix, HMix, MixPlan, Mixup, PatchUp, Remix
from mixlayers._core.plan.relabel import Lopsided
from tests.support.mixed_arrays import mixed


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
