"""Samples and loaders as people have them: dicts, indices, lists of boxes, scales beside images, worker processes."""

from collections import namedtuple

import mixlayers.chainer  # isort: skip  # before chainer, which it helps to be imported

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import mixlayers.jax
import mixlayers.paddle
import mixlayers.torch
from mixlayers import CutMix, ManifoldMixup, Mixup, NoisyFeatureMixup

FACES = [mixlayers.torch, mixlayers.paddle, mixlayers.chainer]
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(5, 3, 6, 6)).astype(np.float32)
Y = np.arange(5) % 4
Sample = namedtuple("Sample", ["image", "target", "number"])

KINDS = {
    "dict": lambda x, y, i: {"image": x, "label": y, "index": i},
    "named tuple": lambda x, y, i: Sample(x, y, i),
    "index first": lambda x, y, i: (i, x, y),
    "several inputs": lambda x, y, i: ((x, x * 2), y),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("getter", ["default", "where", "function"])
def test_samples_of_any_kind_are_collated_and_mixed(face, kind, getter):
    """As the same samples in the form (x, y), and what is no feature stays."""
    samples = [KINDS[kind](x.copy(), int(y), i) for i, (x, y) in enumerate(zip(IMAGES, Y, strict=True))]
    where = {"dict": "label", "named tuple": "target", "index first": 2, "several inputs": 1}[kind]
    options = {
        "where": {"labels_getter": where},
        "function": {"labels_getter": lambda batch: take(batch, where)},
    }
    if kind == "several inputs" and face is mixlayers.chainer:
        return  # whose concat_examples stacks them
    if getter == "default" and kind == "index first":
        with pytest.raises(
            ValueError, match=r"cannot be told .*a tuple of 3: give labels_getter=.*\(index, x, y\)"
        ):
            face.MixCollate(Mixup(), 4)(samples)
        return
    batch = face.MixCollate(Mixup(), 4, seed=3, **options.get(getter, {}))(samples)
    x, soft = face.MixCollate(Mixup(), 4, seed=3)(
        [(x.copy(), int(y)) for x, y in zip(IMAGES, Y, strict=True)]
    )
    np.testing.assert_allclose(np.asarray(take(batch, where)), np.asarray(soft))
    image = {"dict": "image", "named tuple": "image", "index first": 1}.get(kind)
    found = batch[0][0] if image is None else take(batch, image)
    np.testing.assert_allclose(np.asarray(found), np.asarray(x))
    if kind == "several inputs":
        np.testing.assert_allclose(np.asarray(batch[0][1]), 2 * np.asarray(x), rtol=1e-6)
    else:
        index = take(batch, {"dict": "index", "named tuple": "number", "index first": 0}[kind])
        assert np.asarray(index).tolist() == [0, 1, 2, 3, 4]
    if kind == "named tuple":
        assert isinstance(batch, Sample)


def take(batch, where):
    return getattr(batch, where) if hasattr(batch, "_fields") else batch[where]


@pytest.mark.parametrize("face", FACES)
def test_where_the_labels_are_must_be_told(face):
    samples = [{"image": x, "truth": int(y)} for x, y in zip(IMAGES, Y, strict=True)]
    with pytest.raises(ValueError, match=r"a dict of \['image', 'truth'\]: give labels_getter="):
        face.MixCollate(Mixup(), 4)(samples)
    with pytest.raises(ValueError, match=r"labels_getter='label' is not in the batch, a dict of"):
        face.MixCollate(Mixup(), 4, labels_getter="label")(samples)
    with pytest.raises(ValueError, match="must return the labels as they stand in the batch"):
        face.MixCollate(Mixup(), 4, labels_getter=lambda batch: np.zeros(5))(samples)
    face.MixCollate(Mixup(), 4, labels_getter="truth")(samples)


def plan_of(fw, inputs, target, step, **options):
    return fw.face.mix(inputs, target, Mixup(pairs="derangement"), step=step, **options)


def test_a_list_of_boxes_is_paired_by_samples(fw):
    boxes = [{"boxes": fw.tensor(RNG.random((2, 4)).astype(np.float32)), "id": i} for i in range(2)]
    x = fw.tensor(RNG.normal(size=(2, 5)).astype(np.float32))
    _, target = plan_of(fw, x, boxes, 0)
    assert [item["id"] for item in target.partner] == target.plan.perm.tolist() == [1, 0]
    np.testing.assert_array_equal(fw.numpy(target.partner[0]["boxes"]), fw.numpy(boxes[1]["boxes"]))
    ragged = [fw.tensor(np.zeros((count, 4), np.float32)) for count in (3, 0)]
    _, target = plan_of(fw, x, {"boxes": ragged, "y": fw.tensor(np.arange(2))}, 0)
    assert [len(b) for b in target.partner["boxes"]] == [0, 3]
    assert fw.numpy(target.partner["y"]).tolist() == [1, 0]


@pytest.mark.parametrize("way", ["mix", "wrap"])
def test_a_list_of_images_is_refused_where_its_rows_would_be_mixed(fw, way):
    """Three images of three channels: a list of samples, or three inputs of three samples."""
    images = [fw.tensor(image) for image in IMAGES[:3]]
    labels = fw.tensor(np.arange(3))
    model = fw.face.wrap(fw.sequential(fw.function(lambda x: x)), Mixup())
    with pytest.raises(
        ValueError, match=r"a list of 3 inputs of 3 rows each may have one for each sample.*stack"
    ):
        fw.face.mix(images, labels, Mixup()) if way == "mix" else model(images, target=labels)
    with pytest.raises(
        ValueError, match=r"the input has 3 samples, but the target has shape \(2,\).*stacked"
    ):
        fw.face.mix(images[:2], fw.tensor(np.arange(2)), Mixup())
    with pytest.raises(ValueError, match=r"a list of 3 labels of 3 rows each may have one for each sample"):
        fw.face.mix(fw.tensor(IMAGES[:3]), [fw.tensor(np.zeros((3, 4), np.float32))] * 3, Mixup())
    mixed, _ = fw.face.mix(tuple(images), labels, Mixup(), step=0)
    assert len(mixed) == 3, "a tuple is several inputs"


def test_scales_beside_images_are_kept_or_warned_of(fw):
    def inputs():
        return {
            "image": fw.tensor(IMAGES),
            "scale_factor": fw.tensor(np.arange(10, dtype=np.float32).reshape(5, 2)),
            "tabular": fw.tensor(np.ones((5, 2), np.float32)),
        }

    labels = fw.tensor(Y)
    with pytest.warns(
        UserWarning, match=r"entry 'scale_factor', \(5, 2\), is mixed like a feature.*keep=\['scale"
    ):
        plan_of(fw, inputs(), labels, 0)
    mixed, target = plan_of(fw, inputs(), labels, 0, keep=["scale_factor"])
    np.testing.assert_array_equal(fw.numpy(mixed["scale_factor"]).ravel(), np.arange(10))
    lam, perm = target.plan.lam, target.plan.perm
    np.testing.assert_allclose(fw.numpy(mixed["image"]), lam * IMAGES + (1 - lam) * IMAGES[perm], atol=1e-5)
    got = []
    model = fw.sequential(fw.function(lambda x: got.append(x) or x["image"]))
    fw.face.wrap(model, Mixup(pairs="derangement"), keep=["scale_factor"])
    model(inputs(), target=labels)
    np.testing.assert_array_equal(fw.numpy(got[-1]["scale_factor"]).ravel(), np.arange(10))
    assert not np.allclose(fw.numpy(got[-1]["image"]), IMAGES)


@pytest.mark.parametrize("face", FACES)
def test_one_number_a_sample_is_mixed_or_kept_in_the_loader(face):
    samples = [
        {"image": x, "label": int(y), "depth": np.float32(i)}
        for i, (x, y) in enumerate(zip(IMAGES, Y, strict=True))
    ]

    def depths(**options):
        collate = face.MixCollate(Mixup(pairs="derangement"), 4, labels_getter="label", **options)
        return np.asarray(collate(samples)["depth"])

    kept, mixed = depths(keep=["depth"]), depths()
    np.testing.assert_array_equal(kept, np.arange(5))
    assert mixed.shape == (5,) and not np.allclose(mixed, kept) and mixed.mean() == pytest.approx(2.0)


@pytest.mark.parametrize("given", ["by position", "by name"])
def test_a_models_arguments_are_kept_or_warned_of(fw, given):
    class Scaled(type(fw.sequential())):
        def forward(self, x, scale_factor):
            self.got = fw.numpy(scale_factor)
            return x

    scales = np.arange(5, dtype=np.float32)

    def got(**options):
        model = fw.face.wrap(Scaled(), Mixup(pairs="derangement"), **options)
        more = {"scale_factor": fw.tensor(scales)}
        if given == "by name":
            model(fw.tensor(IMAGES), **more, target=fw.tensor(Y))
        else:
            model(fw.tensor(IMAGES), *more.values(), target=fw.tensor(Y))
        return model.got

    with pytest.warns(UserWarning, match=r"entry 'scale_factor', \(5,\), is mixed like a feature"):
        assert not np.allclose(got(), scales)
    np.testing.assert_array_equal(got(keep=["scale_factor"]), scales)


class MixesItself(Dataset):
    """A data set that mixes batches in its worker, without a step."""

    def __getitem__(self, index):
        _, target = mixlayers.torch.mix(torch.arange(4.0)[:, None], torch.arange(4), Mixup())
        return target.lam

    def __len__(self):
        return 8


def test_workers_and_epochs_draw_differently():
    torch.manual_seed(0)
    loader = DataLoader(MixesItself(), batch_size=1, num_workers=2)
    lams = [[float(lam) for lam in loader] for _ in range(2)]
    assert len({lam for epoch in lams for lam in epoch}) == 16
    torch.manual_seed(0)
    again = [[float(lam) for lam in loader] for _ in range(2)]
    assert lams == again, "torch.manual_seed decides it"


def test_the_main_process_counts_steps():
    x, y = torch.arange(4.0)[:, None], torch.arange(4)
    steps = [mixlayers.torch.mix(x, y, Mixup())[1].plan.step for _ in range(3)]
    assert steps == [steps[0], steps[0] + 1, steps[0] + 2]
    assert mixlayers.torch.mix(x, y, Mixup(), step=7)[1].plan.seed == 0


def test_a_method_without_parentheses_is_refused(fw):
    with pytest.raises(TypeError, match=r"method must be a method such as Mixup\(\), got <class"):
        fw.face.mix(fw.tensor(IMAGES), fw.tensor(Y), Mixup)


def test_hidden_methods_and_masks_take_dicts_too(fw):
    mixed, target = fw.face.mix({"image": fw.tensor(IMAGES)}, fw.tensor(Y), CutMix(), step=1)
    assert set(mixed) == {"image"} and target.mixed
    assert fw.face.mix((fw.tensor(IMAGES),), fw.tensor(Y), ManifoldMixup(), step=1)[1].mixed


EVERY_FACE = [*FACES, mixlayers.jax]


@pytest.mark.parametrize("face", EVERY_FACE)
@pytest.mark.parametrize("as_row", [list, tuple])
def test_rows_of_plain_numbers_are_mixed_as_rows_or_refused(face, as_row):
    """As many samples as classes: put together, the parts of the rows look like the rows of the parts."""
    rows = np.eye(4)[[1, 1, 0, 2]]
    samples = [(x.copy(), as_row(row.tolist())) for x, row in zip(IMAGES, rows, strict=False)]
    collate = face.MixCollate(Mixup(), 4, seed=3)
    if face is mixlayers.chainer:  # whose concat_examples makes arrays of them
        expected = face.MixCollate(Mixup(), 4, seed=3)(
            [(x, row) for (x, _), row in zip(samples, rows, strict=True)]
        )
        np.testing.assert_allclose(collate(samples)[1], expected[1], rtol=1e-6)
        return
    with pytest.raises(ValueError, match=r"labels of a batch are one array .*give each sample .*np.array"):
        collate(samples)


@pytest.mark.parametrize("face", [mixlayers.chainer, mixlayers.jax])
def test_samples_of_other_parts_than_the_first_are_refused(face):
    """Else what the first has not would be lost."""
    longer = [(x, int(y), 1, 2)[: 3 + (at > 0)] for at, (x, y) in enumerate(zip(IMAGES, Y, strict=True))]
    with pytest.raises(ValueError, match="sample 1 of the batch has other parts than sample 0, 4 and 3"):
        face.MixCollate(Mixup(), 4, labels_getter=1)(longer)
    named = [
        {"x": x, "y": int(y)} | ({"mask": x} if at else {})
        for at, (x, y) in enumerate(zip(IMAGES, Y, strict=True))
    ]
    with pytest.raises(ValueError, match="other parts than sample 0, x, y, mask and x, y"):
        face.MixCollate(Mixup(), 4)(named)
    if face is mixlayers.jax:
        ragged = [
            (x, int(y), [1.0, 2.0][: 1 + (at > 1)]) for at, (x, y) in enumerate(zip(IMAGES, Y, strict=True))
        ]
        with pytest.raises(ValueError, match="sample 2 of the batch has other parts than sample 0, 2 and 1"):
            face.MixCollate(Mixup(), 4, labels_getter=1)(ragged)


@pytest.mark.parametrize("face", EVERY_FACE)
def test_one_name_to_keep_is_no_list_of_its_letters(face):
    """keep="image_scale" would leave the image, whose name is in it."""
    rule = r"keep is a list of names, got 'image_scale': keep=\['image_scale'\]"
    x, y = {"image": np.asarray(IMAGES), "image_scale": np.ones(5, np.float32)}, np.asarray(Y)
    with pytest.raises(TypeError, match=rule):
        face.MixCollate(Mixup(), 4, keep="image_scale")
    with pytest.raises(TypeError, match=rule):
        face.mix(x, y, Mixup(), keep="image_scale")


def test_wrap_takes_no_name_for_a_list_of_names():
    with pytest.raises(
        TypeError, match=r"keep is a list of names, got 'scale_factor': keep=\['scale_factor'\]"
    ):
        mixlayers.torch.wrap(torch.nn.Linear(2, 2), ManifoldMixup(), ["input"], keep="scale_factor")


@pytest.mark.parametrize("face", EVERY_FACE)
def test_noise_on_bytes_is_rounded_to_bytes(face):
    """Noise that has become bytes itself is none, or huge; and the batch is still one of bytes."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 196, (64, 3, 6, 6), dtype=np.uint8)
    method = NoisyFeatureMixup(add=8.0, multiply=0.0)
    mixed, _ = face.MixCollate(method, 4, seed=3)([(x.copy(), i % 4) for i, x in enumerate(images)])
    mixed, plan = np.asarray(mixed), method.plan(step=0, batch_size=64, seed=3)
    noise = mixed - (plan.lam * images.astype(float) + (1 - plan.lam) * images[plan.perm])
    assert mixed.dtype == np.uint8 and abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(plan.blend(images.shape).add, rel=0.05)
