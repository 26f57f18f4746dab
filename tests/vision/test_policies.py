"""The policies' tables, strengths and pixels are torchvision's own, bit for bit; the erased boxes follow both laws."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from timm.data.random_erasing import RandomErasing as TimmErasing
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms import functional as F

from mixlayers._core.augment.operations import RANGES
from mixlayers._core.augment.policy import image_stream
from mixlayers._core.augment.policy_tables import RAND_AUGMENT, SIGNED, strength, sub_policies
from mixlayers.augment import (
    AutoAugment,
    Compose,
    Crop,
    Normalize,
    Operation,
    RandAugment,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    apply,
)

SIZES = ((1, 1), (1, 9), (8, 8), (37, 53), (64, 48))
KINDS = ((False, 10), (False, 31), (True, 31))


def picture(mode: str, size: tuple[int, int]) -> Image.Image:
    """Smooth and noisy parts, in some of the 256 values only."""
    rng = np.random.default_rng(size[0])
    shape = (*size, 3) if mode == "RGB" else size
    pixels = np.linspace(20, 190, int(np.prod(shape))).reshape(shape) + rng.integers(0, 40, shape)
    return Image.fromarray(pixels.astype(np.uint8))


def levels(name: str, size: tuple[int, int]) -> list[float]:
    """Every magnitude that a policy can draw."""
    found = {strength(name, level, bins, size, wide=wide) for wide, bins in KINDS for level in range(bins)}
    return sorted(found | {-one for one in found if name in SIGNED})


@pytest.mark.parametrize("policy", list(T.AutoAugmentPolicy), ids=lambda policy: policy.value)
def test_auto_augment_has_the_same_sub_policies(policy):
    assert list(sub_policies(policy.value)) == T.AutoAugment(policy).policies


@pytest.mark.parametrize("size", [(224, 224), (32, 32), (331, 500), (37, 53), (1, 7)])
@pytest.mark.parametrize("bins", [2, 7, 10, 31, 100])
def test_strengths_are_the_same(size, bins):
    plain = T.RandAugment()._augmentation_space(bins, size)
    wide = T.TrivialAugmentWide()._augmentation_space(bins)
    auto = T.AutoAugment()._augmentation_space(bins, size)
    assert tuple(plain) == tuple(wide) == RAND_AUGMENT
    for space, is_wide in ((plain, False), (wide, True), (auto, False)):
        for name, (magnitudes, signed) in space.items():
            assert signed == (name in SIGNED)
            theirs = magnitudes.double().expand(bins).numpy()
            ours = np.array([strength(name, level, bins, size, wide=is_wide) for level in range(bins)])
            # the same float32, unless the processor lacks a fused multiply-add
            assert np.abs(ours - theirs).max() <= np.spacing(np.float32(np.abs(theirs).max()))
            if name.startswith("Translate"):
                assert np.array_equal(ours.astype(int), theirs.astype(int))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", [name for name in RANGES if name != "HorizontalFlip"])
def test_operations_have_the_same_pixels(name, mode, size):
    image = picture(mode, size)
    fills = [0, 130] + ([(10, 200, 90)] if mode == "RGB" else [])
    for number, magnitude in enumerate(levels(name, size)):
        fill = fills[number % len(fills)]
        theirs = autoaugment._apply_op(image, name, magnitude, InterpolationMode.NEAREST, fill)
        ours = apply(image, [Operation(name, magnitude, fill)])
        assert ours.mode == theirs.mode == mode
        assert np.array_equal(np.array(ours), np.array(theirs)), magnitude


@pytest.mark.parametrize("policy", list(T.AutoAugmentPolicy), ids=lambda policy: policy.value)
def test_auto_augment_is_the_same_as_a_whole(policy, monkeypatch):
    image, theirs = picture("RGB", (37, 53)), T.AutoAugment(policy)
    for index in range(60):
        rng = image_stream(0, 0, index)
        pair, chances, signs = int(rng.integers(25)), rng.random(2), rng.integers(2, size=2)
        monkeypatch.setattr(theirs, "get_params", lambda _, p=pair, c=chances, s=signs: (p, c, 1 - s))
        ours = AutoAugment(policy.value)(image, index=index)
        assert np.array_equal(np.array(ours), np.array(theirs(image)))


def test_rand_augment_is_the_same_as_a_whole(monkeypatch):
    image = picture("RGB", (37, 53))
    for index in range(60):
        policy = RandAugment(3, index % 31)
        told = []
        for step in policy.plan((37, 53), index=index):
            negative = [math.copysign(1.0, step.magnitude) < 0] if step.name in SIGNED else []
            told += [RAND_AUGMENT.index(step.name), *negative]
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randint", lambda *_, told=told: torch.tensor([told.pop(0)]))
            theirs = T.RandAugment(3, index % 31)(image)
        assert np.array_equal(np.array(policy(image, index=index)), np.array(theirs))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_interpolations_have_the_same_pixels(name, interpolation):
    image = picture("RGB", (37, 53))
    for magnitude in levels(name, (37, 53))[::5]:
        theirs = autoaugment._apply_op(image, name, magnitude, InterpolationMode(interpolation), [7, 8, 9])
        ours = apply(image, [Operation(name, magnitude, (7, 8, 9), interpolation)])
        assert np.array_equal(np.array(ours), np.array(theirs))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_crops_have_the_same_pixels(mode, interpolation):
    image = picture(mode, (37, 53))
    for index in range(40):
        (box,) = RandomResizedCrop((24, 32), interpolation=interpolation).plan((37, 53), index=index)
        where = (box.top, box.left, box.height, box.width)
        theirs = F.resized_crop(image, *where, [24, 32], InterpolationMode(interpolation), antialias=True)
        assert np.array_equal(np.array(apply(image, [box])), np.array(theirs))


def test_a_crop_that_never_fits_falls_back_to_the_same_box():
    for size in ((100, 1), (1, 100), (7, 60), (60, 7)):
        theirs = T.RandomResizedCrop.get_params(Image.new("L", size[::-1]), [1.0, 1.0], [3 / 4, 4 / 3])
        (box,) = RandomResizedCrop(8, (1.0, 1.0)).plan(size, index=0)
        assert box == Crop(*theirs, size=(8, 8))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_flip_and_normalisation_are_the_same(mode):
    image, channels = picture(mode, (37, 53)), 1 if mode == "L" else 3
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    theirs = T.Compose([T.RandomHorizontalFlip(1.0), T.ToTensor(), T.Normalize(mean, std)])(image)
    ours = Compose([RandomHorizontalFlip(1.0), Normalize(mean, std)])(image)
    assert ours.dtype == np.float32 and np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.5), (0.5, 3.0))])
def test_crops_follow_the_same_law(scale, ratio):
    size, image = (90, 130), Image.new("L", (130, 90))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([T.RandomResizedCrop.get_params(image, scale, ratio) for _ in range(2000)])
    policy, rng = RandomResizedCrop(8, scale, ratio), np.random.default_rng(0)
    boxes = [policy.draw(rng, size)[0] for _ in range(2000)]
    same_law(np.array([(box.top, box.left, box.height, box.width) for box in boxes]), theirs)


def test_erased_boxes_follow_torchvisions_law():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blank = torch.zeros(1, 60, 90)
        drawn = [T.RandomErasing.get_params(blank, (0.02, 0.33), (0.3, 3.3), [0.0]) for _ in range(2000)]
    theirs = np.array([box[:4] for box in drawn if box[2] < 60])
    same_law(erased(RandomErasing(p=1.0)), theirs)


def test_erased_boxes_follow_timms_law():
    """timm draws from Python's generator and erases in place: the boxes are read off the pixels."""
    before = random.getstate()
    random.seed(0)
    erase, theirs = TimmErasing(probability=1.0, mode="const", device="cpu"), []
    for _ in range(2000):
        rows, columns = torch.nonzero(erase(torch.ones(1, 60, 90))[0] == 0, as_tuple=True)
        if len(rows):
            top, left = int(rows.min()), int(columns.min())
            theirs.append((top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1))
    random.setstate(before)
    same_law(erased(RandomErasing(1.0, (0.02, 1 / 3), (0.3, 1 / 0.3), "const")), np.array(theirs))


def erased(policy: RandomErasing) -> np.ndarray:
    rng = np.random.default_rng(0)
    boxes = [box for _ in range(2000) for box in policy.draw(rng, (60, 90))]
    return np.array([(box.top, box.left, box.height, box.width) for box in boxes])


def same_law(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Rows of (top, left, height, width): areas, shapes and places have one law."""
    assert abs(len(ours) - len(theirs)) < 0.03 * len(theirs)
    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 2] / box[:, 3],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 1e-3
