"""Padded batches: shares by real tokens, partners of like lengths, and masks that follow the blend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixlayers.jax
from mixlayers import CutMix, DropBlock, ManifoldMixup, MixingError, Near
from mixlayers.jax import blend, cross_entropy, united
from tests.support import reference

LENGTHS = np.array([7, 2, 5, 1, 7, 4])
REAL = np.arange(7) < LENGTHS[:, None]
ROWS = np.random.default_rng(0).normal(size=(6, 7, 3)).astype(np.float32)


def model(x, mask, plan=None):
    """The mean of the real tokens, mixed before or after it was taken."""
    x, mask = blend(x, plan, "tokens"), united(mask, plan, "tokens")
    mean = (x * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    return blend(mean, plan, "mean")


def made(method, **options):
    example = {"x": ROWS, "mask": REAL}
    return mixlayers.jax.Mixer(model, method, example=example, mask="mask", **options)


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("groups", [1, 2])
def test_shares_count_real_tokens(per, groups):
    mixer = made(ManifoldMixup(lam_per=per), layers=["tokens"], share="tokens")
    y = np.arange(6) % 3
    logits = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    for _ in range(3):
        plan = mixer.plan(6, lengths=LENGTHS, groups=groups)
        perm = (plan.perm.reshape(groups, -1) + 6 // groups * np.arange(groups)[:, None]).reshape(-1)
        s = reference.token_share(LENGTHS, perm, plan.lam)
        np.testing.assert_allclose(plan.s, s, atol=1e-6)
        loss = jax.jit(lambda plan: cross_entropy(logits, mixer.target(y, plan)))(plan)
        soft = reference.soft_target(y, perm, s, 3)
        np.testing.assert_allclose(loss, reference.cross_entropy(logits, soft), rtol=1e-5)


def test_steps_that_mix_nothing_have_the_same_form():
    mixer = made(ManifoldMixup(prob=0.5), layers=["tokens"], share="tokens", one_compilation=True)
    plans = [mixer.plan(6, lengths=LENGTHS) for _ in range(12)]
    forms = {str(jax.tree.map(jnp.shape, plan)) for plan in plans}
    assert len(forms) == 1 and {None, "tokens"} == {*mixer.history.counts}


@pytest.mark.parametrize("alike", [False, True])
def test_masks_are_united_after_the_place_where_it_mixes(alike):
    mixer = made(ManifoldMixup(), layers=["tokens", "mean"], one_compilation=alike)
    forward, seen = jax.jit(model), set()
    for _ in range(6):
        found = forward(ROWS, REAL, mixer.plan(6))
        lam, perm = mixer.last.lam, mixer.last.perm
        mask, x = REAL, ROWS
        if mixer.last.place == "tokens":
            mask, x = REAL | REAL[perm], reference.mix(ROWS, perm, lam)
        mean = np.stack([x[i][mask[i]].mean(0) for i in range(6)])
        mean = mean if mixer.last.place == "tokens" else reference.mix(mean, perm, lam)
        np.testing.assert_allclose(found, mean, atol=1e-6)
        seen.add(mixer.last.place)
    assert seen == {"tokens", "mean"}


def test_masks_of_every_kind():
    plan = made(ManifoldMixup(), layers=["tokens"]).plan(6)
    theirs, perm = REAL[plan.perm], plan.perm
    np.testing.assert_array_equal(united(REAL, plan), REAL | theirs)
    np.testing.assert_array_equal(united(~REAL, plan, meaning="ignored"), ~(REAL | theirs))
    np.testing.assert_array_equal(united(LENGTHS, plan), np.maximum(LENGTHS, LENGTHS[perm]))
    scores = np.where(REAL, 0.0, -1e9).astype(np.float32)[:, None, None]
    np.testing.assert_array_equal(united(scores, plan), np.maximum(scores, scores[perm]))
    one = np.ones((1, 1, 7, 7), bool)
    assert united(one, plan) is one and united(REAL, None) is REAL and united(REAL, plan, "mean") is REAL
    still = made(DropBlock(0.3, 1), layers=["tokens"]).plan(6)
    assert united(REAL, still) is REAL
    with pytest.raises(MixingError, match="must have the batch of 6 on its first axis"):
        united(REAL[:4], plan)


def test_partners_of_like_lengths():
    mixer = made(ManifoldMixup(pairs=Near("length", 0.1)), layers=["tokens"])
    lengths = np.array([1, 90, 2, 91, 3, 92])
    perm = mixer.plan(6, lengths=lengths).perm
    assert (perm % 2 == np.arange(6) % 2).all()
    with pytest.raises(
        ValueError, match=r"pairs by length: mixer.plan\(batch_size, lengths=lengths\), got none"
    ):
        mixer.plan(6)


def test_what_is_refused():
    with pytest.raises(ValueError, match="'tokens' is not a true mixing point"):  # the mask goes round it
        mixlayers.jax.Mixer(model, example={"x": ROWS, "mask": REAL})
    with pytest.raises(ValueError, match="share must be 'features' or 'tokens', got 'words'"):
        made(ManifoldMixup(), share="words")
    with pytest.raises(ValueError, match="counts tokens that are blended as wholes, but CutMix"):
        made(CutMix(), share="tokens")
    mixer = made(ManifoldMixup(), layers=["tokens"], share="tokens")
    with pytest.raises(ValueError, match=r"mixer.plan\(batch_size, lengths=lengths\), got none"):
        mixer.plan(6)
    with pytest.raises(ValueError, match=r"one number for each of 6 samples, got shape \(6, 7\): mask.sum"):
        mixer.plan(6, lengths=REAL)
