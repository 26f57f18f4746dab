"""AlignMixup and Noisy Feature Mixup in every framework: values, gradients, what repeats and what is left alone."""

import numpy as np
import pytest

from mixlayers import AlignMixup, ManifoldMixup, NoisyFeatureMixup
from mixlayers._core.batch.carry import carry_out
from mixlayers._core.framework.numpy_arrays import NUMPY
from mixlayers._core.plan.alignments import Aligned
from mixlayers._core.plan.feature import Feature
from tests.support import reference
from tests.support.everywhere import everywhere

SHAPE = (4, 3, 3, 4)
ALIGNING = [AlignMixup(eps=1.0, rounds=20), AlignMixup(eps=2.0, rounds=5, lam_per="sample")]


def flat(x):
    return x.reshape(*x.shape[:2], -1)


def aligned(x, method, step):
    """What the definition makes of x, its plan, and its transpose with the transport held."""
    plan = method.plan(step=step, batch_size=len(x), places=("0",))
    how = plan.blend(x.shape)
    lam = np.broadcast_to(plan.lam, len(x)).astype(np.float64)
    cells = flat(x)
    weights = [reference.transport(cells[i], cells[j], how.eps, how.rounds) for i, j in enumerate(plan.perm)]

    def defined(x):
        return reference.align(flat(x), plan.perm, lam, weights, how.moves_own).reshape(x.shape)

    return defined, how


@everywhere
@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("method", ALIGNING, ids=repr)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_alignmixup_and_its_gradient_equal_the_definition(fw, method, step, dtype):
    rng, y = np.random.default_rng(1), np.arange(4)
    x, upstream = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    defined, how = aligned(x, method, step)
    tensor, tolerance = fw.tensor(x, dtype), {"float64": 1e-6, "float32": 1e-4}[dtype]
    mixed, target = fw.mix_hidden(tensor, fw.tensor(y), method, step=step)
    np.testing.assert_allclose(fw.numpy(mixed), defined(x), rtol=tolerance, atol=tolerance)
    assert fw.dtype(mixed) == dtype
    soft = reference.soft_target(y, how.perm, how.s, 4)
    np.testing.assert_allclose(fw.numpy(target.soft(4)), soft, atol=1e-6)
    gradient = fw.gradient(lambda x: fw.mix_hidden(x, fw.tensor(y), method, step=step)[0], tensor, upstream)
    wanted = reference.numeric_gradient(defined, x, upstream, 1e-3)  # linear: the step is as good as any
    np.testing.assert_allclose(gradient, wanted, rtol=10 * tolerance, atol=10 * tolerance)


def test_both_maps_are_moved_now_and_then_and_channels_may_be_last():
    x = np.random.default_rng(2).normal(size=SHAPE)
    ways = set()
    for step in range(12):
        plan = AlignMixup(eps=1.0, rounds=10).plan(step=step, batch_size=4, places=("0",))
        first, last = plan.blend(SHAPE), plan.blend((4, 3, 4, 3), channel_dim=-1)
        ways.add(first.moves_own)
        partners = NUMPY.partners(plan.perm)
        found = carry_out(NUMPY, np.moveaxis(x, 1, -1), last, partners)
        np.testing.assert_allclose(np.moveaxis(found, -1, 1), carry_out(NUMPY, x, first, partners), rtol=1e-9)
    assert ways == {True, False}


def acted(x, perm, lam, moves_own, eps=0.1, rounds=50):
    how = Aligned(eps, rounds).draw(np.random.default_rng(0), Feature(perm, lam, x.shape))
    how = type(how)(perm, lam, moves_own, eps, rounds, 0.5)
    return carry_out(NUMPY, x, how, NUMPY.partners(perm))


def test_aligned_blends_end_in_the_samples_and_stay_among_their_cells():
    x, perm = np.random.default_rng(3).normal(size=SHAPE), np.array([1, 2, 3, 0])
    np.testing.assert_allclose(acted(x, perm, 1.0, moves_own=False), x, atol=1e-12)
    np.testing.assert_allclose(acted(x, perm, 0.0, moves_own=True), x[perm], atol=1e-12)
    for moves_own in (True, False):
        mixed = acted(x, perm, 0.6, moves_own)
        both = np.concatenate([flat(x), flat(x[perm])], 2)
        assert (flat(mixed) <= both.max(2, keepdims=True) + 1e-9).all()
        assert (flat(mixed) >= both.min(2, keepdims=True) - 1e-9).all()


@pytest.mark.parametrize("moves_own", [True, False])
def test_a_partner_that_is_the_own_map_in_another_order_is_brought_back(moves_own):
    """Far cells and a small eps: the transport is the permutation, and the blend is of a map with itself."""
    rng = np.random.default_rng(4)
    own = rng.normal(size=(3, 12)) * 5
    order = rng.permutation(12)
    x = np.stack([own, own[:, order]]).reshape(2, 3, 3, 4)
    mixed = acted(x, np.array([1, 0]), 0.3, moves_own)
    np.testing.assert_allclose(mixed, x[[1, 0]] if moves_own else x, atol=1e-6)


@everywhere
def test_distances_of_hundreds_and_a_batch_of_one_are_finite(fw):
    x = np.random.default_rng(5).normal(size=(1, 8, 4, 4)).astype(np.float32) * 50
    for step in range(3):
        mixed, _ = fw.mix_hidden(fw.tensor(x), fw.tensor(np.arange(1)), AlignMixup(), step=step)
        assert np.isfinite(fw.numpy(mixed)).all()
        np.testing.assert_allclose(fw.numpy(mixed), x, rtol=1e-3, atol=1e-2)  # its own partner


def test_alignmixup_is_mixup_at_the_input_and_repeats_where_it_is_recomputed(fw):
    (x, y), models = fw.batch(), []
    assert AlignMixup().plan(step=0, batch_size=6).recipe is None
    for kind in (None, *fw.Recomputed):
        model = fw.face.wrap(fw.net(kind), AlignMixup(rounds=10), ["input", "layer2"], seed=1)
        total = 0
        for scale in (1.0, 2.0, 3.0):
            output, target = model(x * scale, target=y)
            total = total + fw.face.cross_entropy(output, target)
        total.backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0], rtol=1e-3, atol=1e-5)


@everywhere
def test_without_noise_it_is_manifold_mixup_bit_for_bit(fw):
    x, y = fw.tensor(np.random.default_rng(6).normal(size=(6, 5, 4, 4))), fw.tensor(np.arange(6) % 3)
    for step in range(4):
        quiet, target = fw.mix_hidden(x, y, NoisyFeatureMixup(add=0.0, multiply=0.0), step=step)
        plain, other = fw.mix_hidden(x, y, ManifoldMixup(1.0), step=step)
        np.testing.assert_array_equal(fw.numpy(quiet), fw.numpy(plain))
        assert target.s == other.s


@everywhere
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_noise_has_its_law_and_its_gradient_and_repeats(fw, dtype):
    rng, y = np.random.default_rng(7), np.arange(4)
    x, upstream = rng.normal(2.0, 1.0, (4, 8, 30, 20)), rng.normal(size=(4, 8, 30, 20))
    tensor = fw.tensor(x, dtype)

    def noisy(x, **strength):
        """What is mixed, and the plan."""
        method, at = NoisyFeatureMixup(**strength), {"step": 2, "seed": 4}
        mixed, _ = fw.mix_hidden(x, fw.tensor(y), method, **at)
        return mixed, method.plan(batch_size=4, places=("0",), **at)

    blend, _ = fw.mix_hidden(tensor, fw.tensor(y), ManifoldMixup(1.0), step=2, seed=4)
    blend = fw.numpy(blend)
    added, plan = noisy(tensor, add=0.5, multiply=0.0)
    e = (fw.numpy(added) - blend) / plan.recipe.add
    assert abs(e.mean()) < 0.03 and abs(e.std() - 1.0) < 0.02 and abs((e**3).mean()) < 0.1
    assert abs((np.abs(e) > 1.96).mean() - 0.05) < 0.01
    multiplied, alone = noisy(tensor, add=0.0, multiply=0.5)
    u = (fw.numpy(multiplied) / blend - 1.0) / alone.recipe.multiply
    settled = u[np.abs(blend) > 0.5]
    assert abs(settled).max() <= 1.001 and abs(settled.mean()) < 0.03 and abs(settled.std() - 3**-0.5) < 0.02

    both, plan = noisy(tensor, add=0.5, multiply=0.5)
    again, _ = noisy(tensor, add=0.5, multiply=0.5)
    np.testing.assert_array_equal(fw.numpy(both), fw.numpy(again))
    other, _ = fw.mix_hidden(tensor, fw.tensor(y), NoisyFeatureMixup(add=0.5, multiply=0.5), step=3, seed=4)
    assert not np.allclose(fw.numpy(both), fw.numpy(other))
    assert fw.dtype(both) == dtype

    gradient = fw.gradient(lambda x: noisy(x, add=0.5, multiply=0.5)[0], tensor, upstream)
    factor = 1.0 + (fw.numpy(multiplied) / blend - 1.0) / alone.recipe.multiply * plan.recipe.multiply
    wanted = reference.mix_backward(upstream * factor, plan.perm, plan.lam)
    assert np.median(np.abs(gradient - wanted)) < 1e-5


def test_noise_leaves_the_frameworks_generator_alone(fw):
    x, y = fw.batch()
    fw.seed(3)
    expected = fw.random()
    fw.seed(3)
    fw.face.mix(x, y, NoisyFeatureMixup(), step=0)
    np.testing.assert_array_equal(fw.random(), expected)


def test_recomputed_noise_is_the_same(fw):
    (x, y), models = fw.batch(), []
    for kind in (None, *fw.Recomputed):
        model = fw.face.wrap(fw.net(kind), NoisyFeatureMixup(), ["layer1"], seed=2)
        output, target = model(x, target=y)
        fw.face.cross_entropy(output, target).backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0])
