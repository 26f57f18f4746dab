"""Mixup and CutMix of images with boxes."""

import numpy as np
import pytest

from mixlayers import CutMix, FMix, Mixup, OneOf, PatchUp
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


@pytest.mark.parametrize("method", [FMix(), OneOf({Mixup(): 1, PatchUp(): 1})], ids=repr)
def test_other_methods_are_refused(fw, method):
    images, boxes, labels = scene(fw)
    with pytest.raises(ValueError, match=r"detection takes Mixup and CutMix, .* got (FMix|PatchUp)"):
        fw.face.mix_detection(fw.tensor(images), boxes, labels, method)


def drawn(box, height=12, width=16):
    """The pixels of a box of whole edges."""
    x1, y1, x2, y2 = box
    points = np.zeros((height, width), bool)
    points[y1:y2, x1:x2] = True
    return points


def seen(box, shown, min_visible):
    """What a box becomes where some of its pixels are shown, or None: by looking at each pixel."""
    points = drawn(box) & shown
    if not points.any() or points.sum() / drawn(box).sum() < min_visible:
        return None
    rows, columns = np.nonzero(points)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    ("method", "min_visible"),
    [(CutMix(), 0.1), (CutMix(lam_per="sample"), 0.5), (CutMix(axes=(-1,)), 0.0), (CutMix(), 1.0)],
    ids=repr,
)
def test_boxes_are_cut_to_what_is_seen_of_them(fw, method, min_visible, dtype):
    if fw.name == "jax" and dtype != "float32":
        pytest.skip("JAX keeps 32 bits")
    rng = np.random.default_rng(3)
    images = rng.random((6, 3, 12, 16)).astype(np.float32)
    counts = [9, 0, 7, 1, 8, 5]
    boxes = [
        np.stack([rng.integers(0, 13, n), rng.integers(0, 9, n), *rng.integers(1, 4, (2, n))], 1)
        for n in counts
    ]
    boxes = [np.concatenate([some[:, :2], some[:, :2] + some[:, 2:]], 1).astype(dtype) for some in boxes]
    fields = [
        {"class": rng.integers(5, size=n), "points": rng.random((n, 2)).astype(np.float32)} for n in counts
    ]
    kept = dropped = 0
    for step in range(4):
        mixed, found = fw.face.mix_detection(
            fw.tensor(images),
            [fw.tensor(some) for some in boxes],
            [{name: fw.tensor(values) for name, values in each.items()} for each in fields],
            method,
            min_visible=min_visible,
            step=step,
            seed=2,
        )
        plan = method.plan(step=step, batch_size=6, seed=2)
        pasted = np.broadcast_to(plan.blend(images.shape).mask[:, 0], (6, 12, 16))
        for i, j in enumerate(plan.perm):
            np.testing.assert_array_equal(
                fw.numpy(mixed)[i], np.where(pasted[i], images[plan.perm[i]], images[i])
            )
            sides = [(i, k, ~pasted[i]) for k in range(counts[i])] if i != j else []
            sides += [(j, k, pasted[i]) for k in range(counts[j])] if i != j else []
            expected = [(seen(boxes[a][k].astype(int), shown, min_visible), a, k) for a, k, shown in sides]
            if i == j:
                expected = [(boxes[i][k], i, k) for k in range(counts[i])]
            dropped += sum(box is None for box, _, _ in expected)
            expected = [each for each in expected if each[0] is not None]
            kept += len(expected)
            ours = found[i]
            assert fw.dtype(ours.boxes) == dtype and fw.dtype(ours.weights) == "float32"
            np.testing.assert_array_equal(
                fw.numpy(ours.boxes), np.array([box for box, _, _ in expected]).reshape(-1, 4)
            )
            assert fw.numpy(ours.weights).tolist() == [1.0] * len(expected)
            for name, values in ours.labels.items():
                np.testing.assert_array_equal(
                    fw.numpy(values),
                    np.array([fields[a][name][k] for _, a, k in expected]).reshape(values.shape),
                )
    assert kept > 20 and dropped > 20


def test_images_with_channels_last_are_cut_alike(fw):
    images, boxes = (
        np.random.default_rng(1).random((4, 3, 9, 11)).astype(np.float32),
        [[[1, 2, 8, 7], [0, 0, 3, 3]]] * 4,
    )
    given = [fw.tensor(np.array(some, np.float32)) for some in boxes], [fw.tensor(np.arange(2))] * 4
    last = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    first, found = fw.face.mix_detection(fw.tensor(images), *given, CutMix(lam_per="sample"), step=2)
    other, same = fw.face.mix_detection(
        fw.tensor(last), *given, CutMix(lam_per="sample"), step=2, channel_dim=-1
    )
    np.testing.assert_array_equal(fw.numpy(other), np.moveaxis(fw.numpy(first), 1, -1))
    for ours, theirs in zip(same, found, strict=True):
        np.testing.assert_array_equal(fw.numpy(ours.boxes), fw.numpy(theirs.boxes))
        np.testing.assert_array_equal(fw.numpy(ours.labels), fw.numpy(theirs.labels))


def test_boxes_of_fractions_are_cut_and_the_others_stay_to_the_last_bit(fw):
    """One image's region is the other's left half: by hand."""
    images = np.zeros((2, 1, 8, 8), np.float32)
    method = CutMix(axes=(-1,), pairs="derangement")

    def region(step):
        mask = method.plan(step=step, batch_size=2).blend(images.shape).mask[0, 0]
        return np.flatnonzero(mask.any(0))

    step = next(n for n in range(999) if region(n).tolist() == [0, 1, 2, 3])
    boxes = np.array([[0.3, 0.1, 0.7, 5.3], [3.1, 1.7, 4.9, 2.9], [4.0, 0.0, 7.7, 8.0]], np.float32)
    given = [fw.tensor(boxes), fw.tensor(boxes[:0])]
    labels = [fw.tensor(np.arange(3)), fw.tensor(np.arange(0))]
    _, (one, other) = fw.face.mix_detection(fw.tensor(images), given, labels, method, step=step)
    cut = [[4.0, boxes[1, 1], boxes[1, 2], boxes[1, 3]], boxes[2]]
    np.testing.assert_array_equal(fw.numpy(one.boxes), np.array(cut, np.float32))
    assert fw.numpy(one.labels).tolist() == [1, 2]
    np.testing.assert_array_equal(
        fw.numpy(other.boxes), np.array([boxes[0], [boxes[1, 0], boxes[1, 1], 4.0, boxes[1, 3]]], np.float32)
    )
    assert fw.numpy(other.labels).tolist() == [0, 1]


def test_boxes_that_cannot_be_cut_are_refused(fw):
    images, boxes, labels = scene(fw)
    given = [fw.tensor(b) for b in boxes], [fw.tensor(y) for y in labels]
    with pytest.raises(ValueError, match=r"CutMix cuts boxes \(x1, y1, x2, y2\) in pixels"):
        fw.face.mix_detection(fw.tensor(images), *given, CutMix(), step=0)
    with pytest.raises(ValueError, match=r"min_visible is a share of a box's area in \[0, 1\], got 1.5"):
        fw.face.mix_detection(fw.tensor(images), *given, CutMix(), min_visible=1.5)


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


@pytest.mark.parametrize("method", [Mixup(pairs="derangement"), CutMix(pairs="derangement")], ids=repr)
def test_entries_of_labels_meet_by_their_names(fw, method):
    """In whatever order each image's dict has them; other entries are refused."""
    images = fw.tensor(np.zeros((2, 3, 8, 8), np.float32))
    boxes = [fw.tensor(np.array([[0, 0, 8, 8]], np.float32))] * 2
    ones, twos = fw.tensor(np.array([1])), fw.tensor(np.array([2]))
    labels = [{"class": ones, "crowd": twos}, {"crowd": twos, "class": ones}]
    _, found = fw.face.mix_detection(images, boxes, labels, method, min_visible=0.0, step=1)
    for each in found:
        assert fw.numpy(each.labels["class"]).tolist() == [1] * len(each.boxes)
        assert fw.numpy(each.labels["crowd"]).tolist() == [2] * len(each.boxes)
    with pytest.raises(
        ValueError, match="image 1 has other labels than image 0, area, class and class, crowd"
    ):
        fw.face.mix_detection(images, boxes, [labels[0], {"class": ones, "area": twos}], method)


def test_boxes_of_nan_are_refused(fw):
    images, boxes = fw.tensor(np.zeros((2, 3, 8, 8), np.float32)), np.array([[0, 0, 8, 8]], np.float32)
    given, labels = [fw.tensor(boxes), fw.tensor(boxes * np.nan)], [fw.tensor(np.array([1]))] * 2
    with pytest.raises(ValueError, match=r"CutMix cuts boxes .* got for example \[nan, nan, nan, nan\]"):
        fw.face.mix_detection(images, given, labels, CutMix(), step=0)
