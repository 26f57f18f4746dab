"""What the steps do to pixels: kinds and dtypes kept, nothing written to, and what each operation's name says."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mixlayers.augment
from mixlayers._core.augment.operations import RANGES
from mixlayers.augment import (
    AutoAugment,
    Compose,
    Crop,
    Cutout,
    Erase,
    Normalize,
    Operation,
    RandAugment,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    TrivialAugmentWide,
    apply,
)

RECIPE = Compose(
    [
        RandomResizedCrop(24),
        RandomHorizontalFlip(),
        RandAugment(fill=128),
        Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        RandomErasing(value="random"),
    ]
)
TRANSFORMS = [
    AutoAugment(),
    RandAugment(4),
    TrivialAugmentWide(),
    RandomResizedCrop(9),
    RandomHorizontalFlip(1.0),
    RandomErasing(1.0, value="pixel"),
    Cutout(4, value="rand"),
    Compose([RandomErasing(1.0), RandAugment(), Cutout(5), RandomHorizontalFlip()]),
    Compose([]),
]
shapes = st.tuples(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([(), (1,), (3,)])
).map(lambda drawn: (*drawn[:2], *drawn[2]))  # fmt: skip
seeds = st.integers(0, 2**32)


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def as_pil(array):
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


@pytest.mark.parametrize("transform", [*TRANSFORMS, RECIPE], ids=repr)
def test_a_transform_is_a_value(transform):
    for same in (eval(repr(transform)), pickle.loads(pickle.dumps(transform))):
        assert same == transform and type(same) is type(transform)
    assert type(transform).__doc__.strip()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@given(shape=shapes, seed=seeds)
def test_kind_and_dtype_are_kept_and_the_input_is_not_written_to(transform, shape, seed):
    array = pixels(shape, seed)
    array.flags.writeable = False  # as a memory-mapped data set is
    before = array.copy()
    drawn = transform(array, index=seed)
    assert isinstance(drawn, np.ndarray) and drawn.dtype == np.uint8 and drawn.flags.writeable
    assert drawn.ndim == array.ndim and drawn.shape[2:] == array.shape[2:]
    assert np.array_equal(array, before) and not np.shares_memory(drawn, array)
    picture = as_pil(array)
    mine = transform(picture, index=seed)
    assert isinstance(mine, Image.Image) and mine.mode == picture.mode and mine is not picture
    assert np.array_equal(np.array(picture), np.array(as_pil(before)))
    assert np.array_equal(np.array(mine), np.array(as_pil(drawn)))


@pytest.mark.parametrize("kind", ["PIL", "array"])
def test_the_recipe_ends_in_floats_and_leaves_its_input(kind):
    array = pixels((40, 30, 3))
    image = as_pil(array) if kind == "PIL" else array
    out = RECIPE(image, index=3, epoch=1, seed=2)
    assert out.shape == (3, 24, 24) and out.dtype == np.float32 and out.flags.c_contiguous
    assert np.array_equal(out, RECIPE(array, index=3, epoch=1, seed=2))
    assert np.array_equal(out, apply(image, RECIPE.plan((40, 30), index=3, epoch=1, seed=2)))
    assert np.array_equal(np.array(image), pixels((40, 30, 3)))


def test_erasing_comes_before_or_after_normalisation():
    normal = np.random.default_rng(0).standard_normal((3, 20, 30)).astype(np.float32)
    out = Cutout(8)(normal, index=0)
    assert out.dtype == np.float32 and (out == 0).any() and not (normal == 0).any()
    box = Erase(2, 3, 4, 5, (10, 20, 30))
    assert (np.array(apply(as_pil(pixels((20, 30, 3))), [box]))[2:6, 3:8] == (10, 20, 30)).all()


def test_a_call_without_an_index_is_new_each_time_and_one_with_it_is_not():
    image = pixels((16, 16, 3))
    assert len({TrivialAugmentWide()(image).tobytes() for _ in range(40)}) > 5
    assert len({TrivialAugmentWide()(image, index=7).tobytes() for _ in range(5)}) == 1
    assert len({TrivialAugmentWide()(image, index=7, epoch=epoch).tobytes() for epoch in range(40)}) > 5
    with pytest.raises(ValueError, match=r"need the image's index too, got epoch=1, seed=0: pass index="):
        TrivialAugmentWide()(image, epoch=1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_operations_do_what_their_names_say(mode):
    image = pixels((13, 17, 3) if mode == "RGB" else (13, 17))

    def do(name, magnitude=0.0, fill=0):
        return apply(image, [Operation(name, magnitude, fill)]).astype(int)

    assert np.array_equal(do("Identity"), image)
    assert np.array_equal(do("Invert"), 255 - image.astype(int))
    assert np.array_equal(do("HorizontalFlip"), image[:, ::-1])
    assert np.array_equal(do("Posterize", 3), image & 0b11100000)
    assert np.array_equal(do("Solarize", 100.0), np.where(image < 100, image, 255 - image.astype(int)))
    assert np.array_equal(do("Rotate", 180.0), image[::-1, ::-1])
    for name in ("ShearX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"):
        assert np.array_equal(do(name, 0.0), image)
    assert (do("Brightness", -1.0) == 0).all()
    assert np.array_equal(do("Brightness", 1.0), np.minimum(2 * image.astype(int), 255))
    assert len(np.unique(do("Contrast", -1.0))) == 1
    grey = do("Color", -1.0)
    assert np.array_equal(grey, image) if mode == "L" else (grey == grey[..., :1]).all()
    assert np.ptp(do("AutoContrast")) >= 254
    right, down = do("TranslateX", 4.9, fill=7), do("TranslateY", -2.0, fill=7)
    assert np.array_equal(right[:, 4:], image[:, :-4]) and (right[:, :4] == 7).all()
    assert np.array_equal(down[:-2], image[2:]) and (down[-2:] == 7).all()
    assert (do("TranslateX", 60000.0, fill=200) == 200).all()
    sheared = do("ShearX", 1.0, fill=7)  # each row goes one further to the left
    assert np.array_equal(sheared[5, :10], image[5, 5:15]) or np.array_equal(sheared[5, :10], image[5, 6:16])


def test_equalize_spreads_and_autocontrast_stretches():
    dull = pixels((200, 200)) // 4 + 90
    assert (dull.min(), dull.max()) == (90, 153)
    flat = apply(dull, [Operation("Equalize")])
    assert flat.min() == 0 and flat.max() >= 252 and abs(flat.mean() - 127.5) < 4
    wide = apply(dull, [Operation("AutoContrast")])
    assert wide.min() == 0 and wide.max() >= 254  # Pillow cuts to whole numbers
    constant = np.full((5, 5), 33, np.uint8)
    for name in ("Equalize", "AutoContrast"):
        assert np.array_equal(apply(constant, [Operation(name)]), constant)


def test_fill_is_one_value_or_one_a_channel():
    image = pixels((9, 9, 3))
    assert (apply(image, [Operation("TranslateX", 100.0, (1, 2, 3))]) == (1, 2, 3)).all()
    assert (apply(image[..., 0], [Operation("TranslateX", 100.0, (1,))]) == 1).all()
    with pytest.raises(ValueError, match=r"fill must be one value, or 1, one a channel; got \(1, 2, 3\)"):
        apply(image[..., 0], [Operation("TranslateX", 100.0, (1, 2, 3))])


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 7, 3), (7, 1)])
def test_one_pixel_is_enough(shape):
    for name, allowed in RANGES.items():
        for magnitude in allowed or (0.0,):
            assert apply(pixels(shape), [Operation(name, magnitude)]).shape == shape


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (Image.new("RGBA", (4, 4)), ValueError, r"'L' or 'RGB', got 'RGBA': use image.convert\('RGB'\)"),
        (Image.new("P", (4, 4)), ValueError, r"got 'P'"),
        (Image.new("I;16", (4, 4)), ValueError, r"got 'I;16': convert\(\) would cut off its range; scale it"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"or \(H, W, 3\), got \(4, 4, 4\): channels come last"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"got \(3, 8, 8\)"),
        (np.zeros((4,), np.uint8), ValueError, r"got \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"a pixel at least, got height 0 and width 4"),
        (np.zeros((4, 4), np.int64), ValueError, r"must be uint8, or floating after Normalize, got int64"),
        (np.zeros((4, 4, 3), np.uint16), ValueError, r"got uint16: 16-bit images keep their range as floats.*65535"),
        (np.zeros((4, 4, 3), np.int64), ValueError, "got int64: convert it by its own range"),
        (np.zeros((4, 4), np.float32), ValueError, r"floating image must be of shape \(C, H, W\), got \(4, 4\)"),
        (np.zeros((3, 4, 4), np.float32), ValueError, r"needs an 8-bit image, got float32: put Normalize last"),
        ([[1, 2]], TypeError, r"a PIL image or a NumPy array, got list: convert it first"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_wrong_images_are_told_the_way_out(image, error, says):
    with pytest.raises(error, match=says):
        RandAugment()(image)


def test_wrong_steps_are_told_the_way_out():
    image = pixels((8, 8, 3))
    with pytest.raises(TypeError, match=r"such as Operation\('Invert'\), got 'Invert'"):
        apply(image, ["Invert"])
    with pytest.raises(ValueError, match=r"crop must lie inside the image of size \(8, 8\), got Crop\(top=4"):
        apply(image, [Crop(4, 0, 5, 5, (8, 8))])
    with pytest.raises(ValueError, match=r"Rotate.*needs an 8-bit image, got float32"):
        apply(image, [Normalize((0.5,), (0.5,)), Operation("Rotate", 5.0)])


def test_the_core_does_not_load_pillow():
    probe = "import sys, mixlayers, mixlayers._core.augment.policies; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    assert set(mixlayers.augment.__all__) <= vars(mixlayers.augment).keys()
