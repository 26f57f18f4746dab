"""Labels with points that do not look so, and numbers that no tensor holds: neither may stay behind silently."""

from types import SimpleNamespace

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, Mixup
from tests.support.everywhere import everywhere

RNG = np.random.default_rng(0)
CURVES = RNG.normal(size=(6, 2, 12)).astype(np.float32)
IMAGES = RNG.normal(size=(6, 3, 8, 8)).astype(np.float32)
STEPS, HALVED = RNG.integers(3, size=(6, 12)), RNG.integers(3, size=(6, 6))
MAPS, KINDS = RNG.integers(3, size=(6, 8, 8)), np.arange(6) % 3
BOX = CutMix(pairs="derangement")


def mixed(fw, y, x=CURVES, method=BOX):
    _, target = fw.face.mix(fw.tensor(x), y, method, step=1)
    return target


@everywhere
@pytest.mark.parametrize(
    "steps", [STEPS, HALVED, (STEPS > 1).astype(np.float32)], ids=["all", "half", "float"]
)
def test_labels_of_each_moment_follow_the_box(fw, steps):
    """(N, T) beside curves (N, C, T)."""
    target = mixed(fw, fw.tensor(steps))
    with pytest.raises(
        ValueError, match=r"labels of shape \(6, \d+\) must follow it.*dense=True.*dense=False"
    ):
        target.blend(lambda y: y)
    found = fw.numpy(target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)), dense=True))
    how = target.plan.blend(CURVES.shape)
    inside = np.broadcast_to(how.mask, CURVES.shape)[:, 0].reshape(6, steps.shape[1], -1).mean(2)
    np.testing.assert_allclose(found, steps + inside * (steps[how.perm] - steps), atol=1e-6)
    plain = fw.numpy(target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)), dense=False))
    np.testing.assert_allclose(plain, steps + how.s * (steps[how.perm] - steps), atol=1e-6)


@everywhere
def test_classes_of_a_curve_are_no_moments(fw):
    """As many or few as there are."""
    for classes in (3, 12):
        rows = np.eye(classes, dtype=np.int64)[KINDS]
        target = mixed(fw, fw.tensor(rows))
        logits = fw.tensor(RNG.normal(size=(6, classes)).astype(np.float32))
        assert np.isfinite(fw.numpy(fw.face.binary_cross_entropy(logits, target)))
        assert fw.numpy(target.soft(classes)).sum() == pytest.approx(6.0)
    for other in (
        mixed(fw, fw.tensor(STEPS), IMAGES),
        mixed(fw, fw.tensor(STEPS), method=Mixup()),
        fw.face.mix(fw.tensor(CURVES), fw.tensor(STEPS), ManifoldMixup(), step=1)[1],
    ):
        other.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)))


@everywhere
def test_pixels_in_a_container_follow_too_and_what_has_none_gets_its_samples_share(fw):
    y = {"map": fw.tensor(MAPS), "kind": fw.tensor(KINDS)}
    target = mixed(fw, y, IMAGES)
    with pytest.raises(ValueError, match=r"labels of shape \(6, 8, 8\) must follow it"):
        target.blend(lambda y: y["kind"])

    def both(y):
        numbers = (fw.numpy(y[name]).astype(np.float32) for name in ("map", "kind"))
        return tuple(map(fw.tensor, numbers))

    pixels, kinds = map(fw.numpy, target.blend(both, dense=True))
    how = target.plan.blend(IMAGES.shape)
    inside = np.broadcast_to(how.mask[:, 0], MAPS.shape)
    np.testing.assert_allclose(pixels, np.where(inside, MAPS[how.perm], MAPS), atol=1e-6)
    np.testing.assert_allclose(kinds, KINDS + how.s * (KINDS[how.perm] - KINDS), atol=1e-6)


def test_a_criterion_is_told_too(fw):
    model = fw.sequential(fw.function(lambda x: x * 1.0))
    mixer = fw.face.Mixer(model, BOX)
    criterion = mixer.loss(lambda output, y: fw.pooled(output).sum())
    output = model(fw.wanting(fw.tensor(CURVES)))
    with pytest.raises(ValueError, match=r"labels of shape \(6, 12\) must follow it"):
        criterion(output, fw.tensor(STEPS))


def test_numbers_beside_tensors_are_refused(fw):
    """They would stay with their own samples."""
    numbers = KINDS.tolist()
    for kept in (numbers, tuple(numbers), KINDS.astype(np.float32)):
        if fw.name.startswith("chainer") and isinstance(kept, np.ndarray):
            continue  # it is a tensor there
        with pytest.raises(
            ValueError, match=f"6 numbers, one for each sample, in a {type(kept).__name__}, which"
        ):
            mixed(fw, {"y": fw.tensor(KINDS), "length": kept})
    names = [f"{n}.jpg" for n in numbers]
    target = mixed(fw, {"y": fw.tensor(KINDS), "file": names, "sizes": [32, 64]})
    assert target.partner["file"] is names
    assert mixed(fw, fw.tensor(KINDS[:1]), CURVES[:1]).plan.batch_size == 1


def test_a_list_of_anything_has_one_item_a_sample(fw):
    """Such as detectron2's Instances, or boxes as arrays."""
    for kind in (lambda n: SimpleNamespace(n=n), lambda n: {"n": n, "boxes": np.full((n, 4), n)}):
        items = [kind(n) for n in range(6)]
        target = mixed(fw, {"y": fw.tensor(KINDS), "items": items})
        assert all(target.partner["items"][at] is items[of] for at, of in enumerate(target.plan.perm))
