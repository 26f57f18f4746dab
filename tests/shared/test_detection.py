"""Mixup of images with boxes."""

import numpy as np
import pytest

from mixlayers import CutMix, Mixup, OneOf, PatchUp
from tests.support.everywhere import everywhere

pytestmark = everywhere

COUNTS = [2, 0, 3, 1]


def scene(fw, wrap=None):
    rng = np.random.default_rng(0)
    images = rng.random((4, 3, 8, 8)).astype(np.float32)
    boxes = [rng.random((count, 4)).astype(np.float32) for count in COUNTS]
    labels = [rng.integers(5, size=count) for count in COUNTS]
    return images, boxes, labels


@pytest.mark.parametrize(
    "method", [Mixup(1.5), Mixup(1.5, lam_per="sample"), OneOf({Mixup(8.0): 1, Mixup(1.0): 1})], ids=repr
)
def test_each_image_has_both_images_boxes_by_their_shares(fw, method):
    images, boxes, labels = scene(fw)
    mixed, found = fw.face.mix_detection(
        fw.tensor(images),
        [fw.tensor(b) for b in boxes],
        [fw.tensor(y) for y in labels],
        method,
        step=3,
        seed=1,
    )
    plan = method.plan(step=3, batch_size=4, seed=1)
    lam = np.broadcast_to(plan.lam, 4).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(fw.numpy(mixed), lam * images + (1 - lam) * images[plan.perm], atol=1e-6)
    for i, j in enumerate(plan.perm):
        other = slice(0 if i == j else None)  # an image that is paired with itself shows its boxes once
        np.testing.assert_array_equal(fw.numpy(found[i].boxes), np.concatenate([boxes[i], boxes[j][other]]))
        np.testing.assert_array_equal(
            fw.numpy(found[i].labels), np.concatenate([labels[i], labels[j][other]])
        )
        shares = (1.0, 0.0) if i == j else (lam.ravel()[i], 1 - lam.ravel()[i])
        weights = np.repeat(shares, [COUNTS[i], len(boxes[j][other])])
        np.testing.assert_allclose(fw.numpy(found[i].weights), weights, atol=1e-6)
        assert fw.dtype(found[i].weights) == "float32" and fw.dtype(found[i].labels) == "int64"


def test_a_clean_step_leaves_all_as_it_is(fw):
    method = Mixup(prob=0.5)
    step = next(n for n in range(99) if method.plan(step=n, batch_size=4).place is None)
    images, boxes, labels = scene(fw)
    mixed, found = fw.face.mix_detection(
        fw.tensor(images), [fw.tensor(b) for b in boxes], [fw.tensor(y) for y in labels], method, step=step
    )
    np.testing.assert_array_equal(fw.numpy(mixed), images)
    assert [fw.numpy(each.weights).tolist() for each in found] == [[1.0] * count for count in COUNTS]


@pytest.mark.parametrize("method", [CutMix(), OneOf({Mixup(): 1, PatchUp(): 1})], ids=repr)
def test_what_cuts_boxes_is_refused(fw, method):
    images, boxes, labels = scene(fw)
    with pytest.raises(ValueError, match="a box that is cut is another box, so detection takes Mixup alone"):
        fw.face.mix_detection(fw.tensor(images), boxes, labels, method)


def test_what_does_not_fit_is_refused(fw):
    images, boxes, labels = scene(fw)
    x = fw.tensor(images)
    with pytest.raises(ValueError, match="got 4 images, boxes of 3 and labels of 4"):
        fw.face.mix_detection(x, boxes[:3], labels, Mixup())
    with pytest.raises(
        ValueError, match=r"image 2 needs boxes \(M, 4\) and labels \(M,\), got \(3, 4\) and \(1,\)"
    ):
        fw.face.mix_detection(x, boxes, [*labels[:2], labels[3], labels[3]], Mixup())
    with pytest.raises(ValueError, match="an image of several boxes has no one label to pair by"):
        fw.face.mix_detection(x, boxes, labels, Mixup(pairs="same_class"))
