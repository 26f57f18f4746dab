"""Every framework against the NumPy reference: values, gradients, shares, losses."""

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, MixedTarget, Mixup, PatchUp
from tests.support import reference
from tests.support.everywhere import everywhere

pytestmark = everywhere

METHODS = [
    Mixup(),
    Mixup(lam_per="sample", pairs="derangement"),
    Mixup(lam_per="pair"),
    CutMix(),
    CutMix(lam_per="sample"),
    ManifoldMixup(),
    PatchUp("hard", block_size=3),
    PatchUp("soft", block_size=4),
    PatchUp("soft", lam_per="sample", block_size=2),
]
SHAPES = [
    (5, 6),
    (4, 3, 1, 9),
    (5, 4, 9),
    (5, 3, 8, 6),
    (4, 2, 5, 4, 6),
    (3, 4, 1, 1),
    (1, 2, 3, 3),
    (7, 2, 3, 11),
]
CASES = [
    pytest.param(method, shape, dtype, id=f"{dtype}-{method}-{'x'.join(map(str, shape))}")
    for method in METHODS
    for shape in SHAPES
    for dtype in ("float64", *["float32"] * (shape in SHAPES[3:5]))  # rounding hides what float64 shows
    if max(shape[2:], default=0) > 2 or not isinstance(method, CutMix)
]


def mix(fw, x, y, method, **where):
    """Mix by the public call: at the input, or through a hidden layer if the method mixes there."""
    return (fw.mix_hidden if method.hidden else fw.face.mix)(x, y, method, **where)


@pytest.mark.parametrize(("method", "shape", "dtype"), CASES)
def test_mixing_equals_the_reference(fw, method, shape, dtype):
    rng, y = np.random.default_rng(1), np.arange(shape[0]) % 3
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    plan = method.plan(step=3, batch_size=shape[0], seed=5, places=("0",))
    how = plan.blend(shape)
    tolerance = 1e-12 if dtype == "float64" else 1e-6

    tensor = fw.tensor(x, dtype)
    mixed, target = mix(fw, tensor, fw.tensor(y), method, step=3, seed=5)
    lam = np.float64(how.lam) if isinstance(how.lam, float) else how.lam
    expected = reference.mix(fw.numpy(tensor), plan.perm, lam, how.mask)
    np.testing.assert_allclose(fw.numpy(mixed), expected, rtol=tolerance, atol=tolerance)
    assert fw.dtype(mixed) == dtype and mixed is not tensor

    gradient = fw.gradient(lambda x: mix(fw, x, fw.tensor(y), method, step=3, seed=5)[0], tensor, upstream)
    wanted = reference.mix_backward(upstream, plan.perm, lam, how.mask)
    np.testing.assert_allclose(gradient, wanted, rtol=tolerance, atol=tolerance)

    np.testing.assert_array_equal(fw.numpy(tensor), fw.numpy(fw.tensor(x, dtype)))  # the caller's batch
    soft = reference.soft_target(y, plan.perm, reference.partner_share(shape, how.lam, how.mask), 3)
    np.testing.assert_allclose(fw.numpy(target.soft(3)), soft, atol=1e-6)
    assert np.allclose(fw.numpy(target.soft(3)).sum(1), 1.0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft_labels", [False, True])
def test_the_loss_equals_the_reference(fw, method, smoothing, soft_labels):
    rng = np.random.default_rng(2)
    logits, y = rng.normal(size=(6, 4)), np.arange(6) % 4
    labels = fw.tensor(np.eye(4)[y]) if soft_labels else fw.tensor(y)
    x = fw.tensor(rng.normal(size=(6, 3, 5, 5)))
    _, target = mix(fw, x, labels, method, step=1)
    plan = target.plan
    how = plan.blend((6, 3, 5, 5))
    soft = reference.soft_target(y, plan.perm, how.s, 4, smoothing)
    expected = reference.cross_entropy(logits, soft)
    loss = fw.face.cross_entropy(fw.tensor(logits), target, label_smoothing=smoothing)
    np.testing.assert_allclose(fw.numpy(loss), expected, rtol=1e-6)


def test_patchups_two_published_losses_are_one_loss_twice(fw):
    """u * L(y) + (1 - u) * L(y_b) + L(reweighted) == 2 * L(mixed target): L is affine in the target."""
    rng = np.random.default_rng(3)
    logits, y = fw.tensor(rng.normal(size=(8, 5))), np.arange(8) % 5
    x = fw.tensor(rng.normal(size=(8, 4, 9, 9)))
    for method in (PatchUp("hard", loss_scale=2.0), PatchUp("soft", loss_scale=2.0)):
        plan = method.plan(step=0, batch_size=8, places=("hidden",))
        how = plan.blend(x.shape)
        changed = float(how.mask.mean())
        eye = np.eye(5)
        target_b = plan.lam * eye[y] + (1 - plan.lam) * eye[y][plan.perm]
        reweighted = (1 - changed) * eye[y] + changed * target_b

        def loss(t, logits=logits):
            return reference.cross_entropy(fw.numpy(logits), t)

        published = (1 - changed) * loss(eye[y]) + changed * loss(target_b) + loss(reweighted)
        ours = MixedTarget(fw.tensor(y), fw.tensor(y[plan.perm]), how.s, plan)
        np.testing.assert_allclose(fw.numpy(fw.face.cross_entropy(logits, ours)), published, rtol=1e-6)


def test_accuracy_is_weighted_by_the_share(fw):
    rng, y = np.random.default_rng(4), np.arange(6) % 3
    scores = rng.normal(size=(6, 3))
    hits = scores.argmax(1)
    assert fw.numpy(fw.face.accuracy(fw.tensor(scores), fw.tensor(y))) == pytest.approx((hits == y).mean())
    for method in (Mixup(), Mixup(lam_per="sample")):
        _, target = fw.face.mix(fw.tensor(rng.normal(size=(6, 2))), fw.tensor(y), method, step=2)
        perm, s = target.plan.perm, target.plan.blend((6, 2)).s
        expected = ((1 - s) * (hits == y) + s * (hits == y[perm])).mean()
        for labels in (
            target,
            MixedTarget(fw.tensor(np.eye(3)[y]), fw.tensor(np.eye(3)[y[perm]]), target.s, target.plan),
        ):
            found = fw.face.accuracy(fw.tensor(scores), labels)
            assert fw.numpy(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "method", [CutMix(), PatchUp("hard", block_size=3), PatchUp("soft", block_size=3)], ids=repr
)
def test_nan_and_inf_do_not_leave_the_mask(fw, method):
    x = np.random.default_rng(5).normal(size=(4, 3, 8, 8)).astype(np.float32)
    x[1], x[2] = np.nan, np.inf
    plan = method.plan(step=1, batch_size=4, places=("0",))
    mixed, _ = mix(fw, fw.tensor(x), fw.tensor(np.arange(4)), method, step=1)
    outside = ~np.broadcast_to(plan.blend(x.shape).mask, x.shape)
    assert outside.any()
    np.testing.assert_array_equal(fw.numpy(mixed)[outside], x[outside])
    assert np.isfinite(fw.numpy(mixed)[0][outside[0]]).all()


def test_a_batch_of_one_is_itself(fw):
    x = fw.tensor(np.random.default_rng(6).normal(size=(1, 3, 8, 8)))
    for method in (Mixup(), CutMix(), PatchUp("soft"), Mixup(pairs="derangement", lam_per="sample")):
        mixed, target = mix(fw, x, fw.tensor(np.array([2])), method, step=0)
        np.testing.assert_allclose(fw.numpy(mixed), fw.numpy(x), rtol=1e-12)
        np.testing.assert_allclose(fw.numpy(target.soft(3)), [[0.0, 0.0, 1.0]], atol=1e-6)


def test_containers_and_other_batch_axes(fw):
    x = np.random.default_rng(7).normal(size=(6, 4, 3))
    batch = {"audio": fw.tensor(x), "ids": fw.tensor(np.arange(4)), "more": (fw.tensor(x * 2), "name")}
    mixed, target = fw.face.mix(batch, fw.tensor(np.arange(4)), Mixup(), step=0, batch_dim=1)
    plan = target.plan
    expected = reference.mix(np.moveaxis(x, 1, 0), plan.perm, plan.lam)
    np.testing.assert_allclose(np.moveaxis(fw.numpy(mixed["audio"]), 1, 0), expected)
    np.testing.assert_allclose(fw.numpy(mixed["more"][0]), fw.numpy(mixed["audio"]) * 2)
    assert mixed["ids"] is batch["ids"] and mixed["more"][1] == "name"


def test_steps_count_by_themselves_when_not_given(fw):
    x, y = fw.tensor(np.zeros((4, 2))), fw.tensor(np.arange(4))
    first, second = (fw.face.mix(x, y, Mixup())[1].plan.step for _ in range(2))
    assert second == first + 1


@pytest.mark.parametrize(
    ("x", "y", "error", "says"),
    [
        (np.zeros((4, 3), dtype=np.uint8), np.arange(4), ValueError, "needs a floating-point tensor.*uint8"),
        (np.zeros((4, 3)), np.arange(3), ValueError, r"4 samples, but the target has shape \(3,\)"),
        (np.zeros((4, 3)), "labels", TypeError, "target must be a tensor"),
        (3.0, np.arange(4), ValueError, "no tensor with a batch axis"),
    ],
)
def test_wrong_input_is_refused(fw, x, y, error, says):
    x = fw.tensor(x) if isinstance(x, np.ndarray) else x
    y = fw.tensor(y) if isinstance(y, np.ndarray) else y
    with pytest.raises(error, match=says):
        fw.face.mix(x, y, Mixup(), step=0)
