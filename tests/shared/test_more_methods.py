"""FMix, HMix, GMix, ResizeMix, SpecMix, Remix, Beside and LISA in every framework, against NumPy."""

import numpy as np
import pytest

from mixlayers import (
    Across,
    Beside,
    CutMix,
    FMix,
    GMix,
    HMix,
    ManifoldMixup,
    Mixup,
    Remix,
    ResizeMix,
    SpecMix,
)
from tests.support import reference
from tests.support.everywhere import everywhere

WEIGHING = [HMix(), HMix(ratio=1.0, lam_per="sample"), GMix(), GMix(lam_per="pair"), FMix(max_soft=0.3)]
MASKING = [FMix(), SpecMix(), CutMix(axes=(-1,))]
SHAPES = [(5, 3, 8, 6), (4, 2, 1, 9), (1, 2, 5, 5)]
TOLERANCES = {"float64": 1e-6, "float32": 1e-5}  # weights are float32


def expected_of(method, how, x):
    """What NumPy makes of x, and its transpose as a function."""
    if method in WEIGHING:
        return reference.weigh(x, how.perm, how.keep), lambda g: reference.weigh_backward(
            g, how.perm, how.keep
        )
    given = how.perm, how.lam, how.mask
    return reference.mix(x, *given), lambda g: reference.mix_backward(g, *given)


@everywhere
@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, "float64") for shape in SHAPES), (SHAPES[0], "float32")], ids=str
)
@pytest.mark.parametrize("method", [*WEIGHING, *MASKING], ids=repr)
def test_mixing_and_its_transpose_equal_the_reference(fw, method, shape, dtype):
    rng, y = np.random.default_rng(1), np.arange(shape[0]) % 3
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    how = method.plan(step=3, batch_size=shape[0], seed=5).blend(shape)
    tensor, tolerance = fw.tensor(x, dtype), TOLERANCES[dtype]
    mixed, target = fw.face.mix(tensor, fw.tensor(y), method, step=3, seed=5)
    expected, transpose = expected_of(method, how, fw.numpy(tensor))
    np.testing.assert_allclose(fw.numpy(mixed), expected, rtol=tolerance, atol=tolerance)
    assert fw.dtype(mixed) == dtype and mixed is not tensor

    gradient = fw.gradient(
        lambda x: fw.face.mix(x, fw.tensor(y), method, step=3, seed=5)[0], tensor, upstream
    )
    np.testing.assert_allclose(gradient, transpose(upstream), rtol=tolerance, atol=tolerance)
    inner, outer = (upstream * expected).sum(), (gradient * fw.numpy(tensor)).sum()
    assert inner == pytest.approx(outer, rel=1e-4, abs=1e-4)  # <G, B x> = <B^T G, x>

    np.testing.assert_array_equal(fw.numpy(tensor), fw.numpy(fw.tensor(x, dtype)))  # the caller's batch
    np.testing.assert_allclose(
        fw.numpy(target.soft(3)), reference.soft_target(y, how.perm, how.s, 3), atol=1e-6
    )


@everywhere
@pytest.mark.parametrize("channel_dim", [1, -1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resizemix_shows_the_whole_partner(fw, channel_dim, dtype):
    rng, method, y = np.random.default_rng(2), ResizeMix((0.3, 0.8)), np.arange(5) % 3
    x, upstream = rng.normal(size=(5, 3, 11, 14)), rng.normal(size=(5, 3, 11, 14))
    plan = method.plan(step=1, batch_size=5)
    how = plan.blend(x.shape)
    expected, came = reference.paste_resized(x, plan.perm, how.mask, plan.recipe.scale)

    def mix(x):
        return fw.face.mix(x, fw.tensor(y), method, step=1, channel_dim=channel_dim)[0]

    given = fw.tensor(np.ascontiguousarray(np.moveaxis(x, 1, channel_dim)), dtype)
    np.testing.assert_allclose(np.moveaxis(fw.numpy(mix(given)), channel_dim, 1), expected, rtol=1e-6)
    gradient = fw.gradient(mix, given, np.ascontiguousarray(np.moveaxis(upstream, 1, channel_dim)))
    wanted = np.zeros(x.size)
    np.add.at(wanted, came.ravel(), upstream.ravel())
    np.testing.assert_allclose(
        np.moveaxis(gradient, channel_dim, 1), wanted.reshape(x.shape), rtol=1e-5, atol=1e-6
    )


@everywhere
@pytest.mark.parametrize("method", [HMix(), FMix(), ResizeMix()], ids=repr)
def test_half_precision_stays(fw, method):
    x, y = fw.batch()
    half = fw.tensor(fw.numpy(x), "float16")
    if fw.name == "paddle" and method != HMix():  # its CPU selects no float16, and says so
        with pytest.raises(RuntimeError, match=r"is not registered|not support"):
            fw.face.mix(half, y, method, step=0)
        return
    mixed, _ = fw.face.mix(half, y, method, step=0)
    exact, _ = fw.face.mix(fw.tensor(fw.numpy(half)), y, method, step=0)
    assert fw.dtype(mixed) == "float16"
    fw.close(mixed, exact, rtol=2e-3, atol=2e-3)


def test_remix_relabels_through_a_hidden_layer(fw):
    rng, y = np.random.default_rng(3), np.array([0, 0, 0, 1, 2, 2])
    x, method = fw.tensor(rng.normal(size=(6, 4))), Remix(ManifoldMixup(), (90, 10, 30))
    for step in range(6):
        mixed, target = fw.mix_hidden(x, fw.tensor(y), method, step=step)
        plan = target.plan
        np.testing.assert_allclose(fw.numpy(mixed), reference.mix(fw.numpy(x), plan.perm, plan.lam))
        s = plan.relabel.share(1.0 - plan.lam)
        soft = reference.soft_target(y, plan.perm, s, 3)
        np.testing.assert_allclose(fw.numpy(target.soft(3)), soft, atol=1e-6)
        logits = rng.normal(size=(6, 3))
        loss = fw.face.cross_entropy(fw.tensor(logits), target)
        np.testing.assert_allclose(fw.numpy(loss), reference.cross_entropy(logits, soft), rtol=1e-6)


def test_remix_says_that_a_criterion_comes_too_late(fw):
    mixer = fw.face.Mixer(fw.net(), Remix(ManifoldMixup(), (1, 2, 3, 4)), ["layer1"])
    with pytest.raises(ValueError, match="decides by class or label and needs the labels"):
        mixer.loss(fw.criterion())


def test_beside_goes_through_a_hidden_layer_of_a_network(fw):
    (x, y), model = fw.batch(4), fw.net()
    doubled, labels = np.concatenate([fw.numpy(x)] * 2), np.concatenate([fw.numpy(y)] * 2).astype(np.int64)
    mixer = fw.face.Mixer(model, Beside(ManifoldMixup(20.0)), ["layer1"])
    output, target = model(fw.tensor(doubled, "float32"), target=fw.tensor(labels))
    fw.face.cross_entropy(output, target).backward()
    assert mixer.last.place == "layer1"
    soft = fw.numpy(target.soft(4))
    np.testing.assert_array_equal(soft[:4], np.eye(4)[labels[:4]])
    assert fw.gradients(model)


def test_lisa_takes_a_dict_of_labels_and_domains(fw):
    (x, y), model = fw.batch(8), fw.net()
    target = {"label": y, "domain": fw.tensor(np.arange(8) // 4)}
    fw.face.wrap(model, Mixup(2.0, lam_per="sample", pairs=Across("same", "different")), "input")
    output, mixed = model(x, target=target)
    perm, labels = mixed.plan.perm, fw.numpy(y)
    assert ((labels[perm] != labels) | (perm == np.arange(8))).all() and (
        perm // 4 == np.arange(8) // 4
    ).all()
    soft = mixed.blend(lambda t: fw.soft_labels(fw.numpy(t["label"]).astype(int), 4))
    wanted = reference.soft_target(labels.astype(int), perm, mixed.plan.blend((8, 3, 8, 8)).s, 4)
    np.testing.assert_allclose(fw.numpy(soft), wanted, atol=1e-6)
    fw.cross_entropy(output, y).backward()
