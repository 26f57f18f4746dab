"""`mixlayers.testing.check` passes what is right, in every framework, and names what is wrong."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mixlayers import CutMix, FMix, GMix, Halves, HMix, Mixup, PatchUp, ResizeMix, SpecMix
from mixlayers.testing import check
from tests.support.everywhere import everywhere

RIGHT = [
    Mixup(),
    Mixup(0.2, lam_per="sample", pairs="derangement"),
    CutMix(),
    CutMix(lam_per="sample", prob=0.5),
    PatchUp("soft", block_size=5),
    PatchUp("hard", block_size=3),
    Mixup(fold=True, pairs=Halves()),
    CutMix(axes=(-1,)),
    FMix(),
    FMix(max_soft=0.2),
    GMix(lam_per="sample"),
    HMix(),
    ResizeMix(),
    SpecMix(),
]


@everywhere
@pytest.mark.parametrize("method", RIGHT, ids=repr)
@pytest.mark.parametrize("labels", ["indices", "one-hot"])
def test_ours_is_right(fw, method, labels):
    report = check(lambda x, y: fw.face.mix(x, y, method), array=fw.tensor, labels=labels, tries=8)
    assert report.ok and not report.failed, report


@everywhere
def test_the_nominal_share_of_cutmix_is_not_the_real_one(fw):
    report = check(lambda x, y: fw.face.mix(x, y, CutMix(correct_lam=False)), array=fw.tensor)
    assert report.failed == ("share",)


def mixup(
    x: Any, y: Any, *, perm: Any = None, lam: float | None = None, rng: Any = random, **wrong: Any
) -> tuple[Any, Any]:
    """Mixup of NumPy arrays, with one thing wrong."""
    lam = rng.uniform(0.1, 0.9) if lam is None else lam
    order = list(range(len(x)))
    rng.shuffle(order)
    perm = np.array(order if perm is None else perm)
    eye = np.eye(10)
    mixed = (lam * x + (1 - lam) * x[perm]).astype(wrong.get("dtype", x.dtype))
    share = wrong.get("share", lam)
    partner = wrong["partner"](perm) if "partner" in wrong else perm
    return mixed, (share * eye[y] + (1 - share) * eye[y[partner]]) * wrong.get("scale", 1.0)


def in_place(x: Any, y: Any) -> tuple[Any, Any]:
    mixed, soft = mixup(x, y)
    x[:] = mixed
    return x, soft


def even_only(x: Any, y: Any) -> tuple[Any, Any]:
    if len(x) % 2:
        raise AssertionError("Batch size should be even")
    return mixup(x, y)


def labels_of_another(x: Any, y: Any) -> tuple[Any, Any]:
    return mixup(x, y)[0], np.eye(10)[y]


WRONG: dict[str, tuple[Callable[[Any, Any], Any], tuple[str, ...]]] = {
    "swapped share": (lambda x, y: mixup(x, y, lam=0.3, share=0.7), ("share",)),
    "partners of the inverse": (lambda x, y: mixup(x, y, partner=np.argsort), ("share",)),
    "labels not mixed": (labels_of_another, ("share", "identity")),
    "rows of two": (lambda x, y: mixup(x, y, scale=2.0), ("rows", "share", "identity")),
    "another dtype": (lambda x, y: mixup(x, y, dtype=np.float64), ("shape",)),
    "in place": (in_place, ("untouched",)),
    "even batches": (even_only, ("batches",)),
    "frozen generator": (lambda x, y: mixup(x, y, rng=random.Random(0)), ("fresh",)),
    "raises": (lambda x, y: x[99], ("runs",)),
    "no soft labels": (lambda x, y: (x, y), ("rows", "fresh")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name):
    augmentation, expected = WRONG[name]
    report = check(augmentation)
    assert set(report.failed) - {"batches"} == set(expected) - {"batches"}, report
    assert expected != ("batches",) or report.failed == expected
    assert not report.ok and "FAILED" in str(report)


def test_pairs_of_labels_smoothing_and_seeds_are_understood():
    def pairs(x: Any, y: Any) -> tuple[Any, Any, Any, float]:
        lam, order = random.random(), random.sample(range(len(x)), len(x))
        return (lam * x + (1 - lam) * x[order]).astype(x.dtype), y, y[order], lam

    def smoothed(x: Any, y: Any) -> tuple[Any, Any]:
        mixed, soft = mixup(x, y)
        return mixed, 0.9 * soft + 0.1 / 10

    state = random.getstate()
    try:
        assert check(pairs, reseed=random.seed).ok
        assert check(smoothed, smoothing=0.1).ok and not check(smoothed).ok
        unseeded = np.random.default_rng(0)
        report = check(lambda x, y: mixup(x, y, lam=unseeded.random()), reseed=random.seed)
        assert report.failed == ("seeds",)
    finally:
        random.setstate(state)


def test_it_leaves_global_generators_alone():
    state = random.getstate()
    check(lambda x, y: (x, np.eye(10)[y]))
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("options", "says"), [({"labels": "words"}, "'indices' or 'one-hot'"), ({"num_classes": 2}, "4 at least")]
)
def test_wrong_arguments(options, says):
    with pytest.raises(ValueError, match=says):
        check(lambda x, y: (x, y), **options)


def _nan_in_images(x, y):
    return x * np.nan, y


def _nan_in_labels(x, y):
    return x, y * np.nan


def _nan_in_half_of_the_images(x, y):
    perm = np.random.default_rng().permutation(len(x))
    return np.where(perm.reshape(-1, 1, 1, 1) % 2, np.nan, 0.5 * x + 0.5 * x[perm]).astype(x.dtype), 0.5 * (
        y + y[perm]
    )


@pytest.mark.parametrize(
    ("augmentation", "broken"),
    [(_nan_in_images, "share"), (_nan_in_labels, "rows"), (_nan_in_half_of_the_images, "share")],
)
def test_nan_breaks_the_rules(augmentation, broken):
    report = check(augmentation, labels="one-hot")
    assert not report.ok and broken in report.failed
