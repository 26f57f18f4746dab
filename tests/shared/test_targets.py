"""Every kind of target goes through `blend`: several heads, several labels, numbers, labels of pixels."""

from importlib import import_module

import numpy as np
import pytest

from mixlayers import AlignMixup, CutMix, ManifoldMixup, MixedTarget, Mixup, Near, PatchUp, ResizeMix
from tests.support import reference
from tests.support.everywhere import everywhere

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32)
IMAGES = RNG.normal(size=(6, 3, 8, 8)).astype(np.float32)
MAPS = RNG.integers(-1, 4, size=(6, 8, 8))
"""Labels of pixels; -1 is ignored."""


def mixed(fw, y, method, x=LOGITS, step=1):
    """A mixed target and its plan's blend."""
    _, target = fw.face.mix(fw.tensor(x), y, method, step=step)
    return target, target.plan.blend(x.shape)


def entropies(logits, y):
    """Cross-entropy at each point, 0 where y is -1: of logits (N, K, ...) and labels (N, ...)."""
    logs = logits - logits.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    return -np.take_along_axis(logs, np.maximum(y, 0)[:, None], 1)[:, 0] * (y >= 0)


def pixel_loss(fw, logits, y):
    """The framework's own, one value a pixel, (N, H, W)."""
    if fw.name == "torch":
        return import_module("torch.nn.functional").cross_entropy(
            logits, y, ignore_index=-1, reduction="none"
        )
    if fw.name == "paddle":
        functional = import_module("paddle.nn.functional")
        loss = functional.cross_entropy(logits, y.unsqueeze(1), ignore_index=-1, axis=1, reduction="none")
        return loss.squeeze(1)
    if fw.name == "jax":
        last = import_module("jax.numpy").moveaxis(logits, 1, -1)
        loss = import_module("optax").softmax_cross_entropy_with_integer_labels(last, abs(y))
        return loss * (y != -1)
    return import_module("chainer.functions").softmax_cross_entropy(logits, y, ignore_label=-1, reduce="no")


@everywhere
def test_several_heads(fw):
    shape, colour = RNG.integers(4, size=6), RNG.normal(size=(6, 1)).astype(np.float32)
    y = {"shape": fw.tensor(shape), "colour": fw.tensor(colour)}
    target, how = mixed(fw, y, Mixup(pairs="derangement"))
    output = {"shape": fw.tensor(LOGITS), "colour": fw.tensor(LOGITS[:, :1])}

    def loss(y):
        return fw.cross_entropy(output["shape"], y["shape"]) + ((output["colour"] - y["colour"]) ** 2).mean()

    soft = reference.soft_target(shape, how.perm, how.s, 4)
    squares = [((LOGITS[:, :1] - labels) ** 2).mean() for labels in (colour, colour[how.perm])]
    expected = reference.cross_entropy(LOGITS, soft) + (1 - how.s) * squares[0] + how.s * squares[1]
    if not fw.name.startswith("chainer"):  # whose Variables have no mean
        assert fw.numpy(target.blend(loss)) == pytest.approx(expected, rel=1e-5)
    heads = target.blend(lambda y: float(fw.numpy(y["colour"]).mean()))
    assert heads == pytest.approx(colour.mean(), rel=1e-5)
    np.testing.assert_array_equal(fw.numpy(target.partner["shape"]), shape[how.perm])
    np.testing.assert_array_equal(fw.numpy(target.partner["colour"]), colour[how.perm])


@everywhere
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_several_labels(fw, lam_per):
    """Binary cross-entropy is affine in the label: blending the losses is mixing the labels."""
    y = RNG.integers(2, size=(6, 4)).astype(np.float32)
    target, how = mixed(fw, fw.tensor(y), Mixup(lam_per=lam_per))

    def entropy(y):
        return np.logaddexp(0, LOGITS) - y * LOGITS

    found = target.blend(lambda y: fw.tensor(entropy(fw.numpy(y)).astype(np.float32)))
    s = np.broadcast_to(how.s, (6,))[:, None]
    labels = (1 - s) * y + s * y[how.perm]
    np.testing.assert_allclose(fw.numpy(found), entropy(labels), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fw.numpy(target.soft(4)), labels, rtol=1e-6, atol=1e-6)


@everywhere
@pytest.mark.parametrize("columns", [None, 2])
@pytest.mark.parametrize("pairs", ["random", Near("label", 0.5)])
def test_regression_blends_the_losses(fw, columns, pairs):
    """As published; a squared error is not affine in the label, so mixing the labels is another loss."""
    y = RNG.normal(size=(6,) if columns is None else (6, columns)).astype(np.float32)
    target, how = mixed(fw, fw.tensor(y), Mixup(pairs=pairs))
    output = np.zeros_like(y)
    found = target.blend(lambda y: (fw.tensor(output) - y) ** 2)
    expected = (1 - how.s) * (output - y) ** 2 + how.s * (output - y[how.perm]) ** 2
    np.testing.assert_allclose(fw.numpy(found), expected, rtol=1e-5)
    labels = (1 - how.s) * y + how.s * y[how.perm]
    assert (expected >= (output - labels) ** 2 - 1e-6).all()


@everywhere
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing(fw, smoothing):
    y = RNG.integers(4, size=6)
    target, how = mixed(fw, fw.tensor(y), Mixup())
    soft = reference.soft_target(y, how.perm, how.s, 4, smoothing)
    np.testing.assert_allclose(fw.numpy(target.soft(4, smoothing)), soft, rtol=1e-5, atol=1e-6)
    found = fw.face.cross_entropy(fw.tensor(LOGITS), target, label_smoothing=smoothing)
    assert fw.numpy(found) == pytest.approx(reference.cross_entropy(LOGITS, soft), rel=1e-5)


@everywhere
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_pixels_of_a_hidden_layer(fw, lam_per):
    """Every pixel has the same share; those that are ignored cost nothing on their side."""
    logits = RNG.normal(size=(6, 4, 8, 8)).astype(np.float32)
    features = RNG.normal(size=(6, 5, 2, 2)).astype(np.float32)
    method = ManifoldMixup(lam_per=lam_per)
    _, target = fw.mix_hidden(fw.tensor(features), fw.tensor(MAPS), method, step=1)
    plan = target.plan
    for dense in (False, True):
        found = target.blend(lambda y: pixel_loss(fw, fw.tensor(logits), y), dense=dense)
        lam = np.broadcast_to(plan.lam, (6,))[:, None, None]
        expected = lam * entropies(logits, MAPS) + (1 - lam) * entropies(logits, MAPS[plan.perm])
        np.testing.assert_allclose(fw.numpy(found), expected, rtol=1e-4, atol=1e-5)


@everywhere
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("labels", [8, 4, 16])
def test_a_box_is_pasted_into_pixels_too(fw, lam_per, labels):
    """At the labels' own resolution: each has the mean of the mask over the part of the image that it stands for."""
    maps = RNG.integers(-1, 4, size=(6, labels, labels))
    target, how = mixed(fw, fw.tensor(maps), CutMix(lam_per=lam_per), IMAGES)
    fine = np.broadcast_to(how.mask, (6, 1, 8, 8))[:, 0].repeat(2, 1).repeat(2, 2)
    inside = fine.reshape(6, labels, 16 // labels, labels, 16 // labels).mean((2, 4))
    pasted = maps + inside * (maps[how.perm] - maps)
    found = target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)), dense=True)
    np.testing.assert_allclose(fw.numpy(found), pasted, atol=1e-6)
    logits = RNG.normal(size=(6, 4, labels, labels)).astype(np.float32)
    found = target.blend(lambda y: pixel_loss(fw, fw.tensor(logits), y), dense=True)
    expected = (1 - inside) * entropies(logits, maps) + inside * entropies(logits, maps[how.perm])
    np.testing.assert_allclose(fw.numpy(found), expected, rtol=1e-4, atol=1e-5)


@everywhere
@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_blocks_give_pixels_the_mean_share_of_their_channels(fw, mode):
    features = RNG.normal(size=(6, 5, 4, 4)).astype(np.float32)
    method = PatchUp(mode, block_size=2, gamma=0.4)
    _, target = fw.mix_hidden(fw.tensor(features), fw.tensor(MAPS), method, step=2)
    plan = target.plan
    how = plan.blend(features.shape)
    share = ((1 - plan.lam) * how.mask).mean(1).repeat(2, 1).repeat(2, 2)
    found = target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)), dense=True)
    np.testing.assert_allclose(fw.numpy(found), MAPS + share * (MAPS[plan.perm] - MAPS), atol=1e-5)
    assert share.mean() == pytest.approx(how.s, abs=1e-6) and share.std() > 0


@everywhere
def test_pixels_under_a_mask_must_be_blended_as_such(fw):
    target, _ = mixed(fw, fw.tensor(MAPS), CutMix(), IMAGES)
    with pytest.raises(ValueError, match=r"labels of shape \(6, 8, 8\) must follow it.*dense=True"):
        target.blend(lambda y: y)
    with pytest.raises(ValueError, match="over 2 spatial axes cannot be brought to labels of shape"):
        target.blend(lambda y: fw.tensor(np.zeros((6, 8), np.float32)), dense=True)
    two = {"left": fw.tensor(IMAGES), "right": fw.tensor(IMAGES)}
    _, target = fw.face.mix(two, fw.tensor(MAPS), CutMix(), step=1)
    with pytest.raises(ValueError, match="the one feature that was mixed"):
        target.blend(lambda y: fw.tensor(np.zeros((6, 8, 8), np.float32)), dense=True)


@everywhere
@pytest.mark.parametrize("method", [ResizeMix((0.4, 0.6)), AlignMixup(rounds=2)], ids=repr)
def test_pixels_cannot_follow_what_is_moved(fw, method):
    features = fw.tensor(RNG.normal(size=(6, 5, 8, 8)).astype(np.float32))
    how = fw.face.mix if isinstance(method, ResizeMix) else fw.mix_hidden
    _, target = how(features, fw.tensor(np.maximum(MAPS, 0)), method, step=1)
    moved = (
        "moves points to other places|the one feature that was mixed"  # in JAX none is known without a mask
    )
    with pytest.raises(ValueError, match=moved):
        target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)), dense=True)
    with pytest.raises(ValueError, match=r"labels of shape \(6, 8, 8\) must follow it"):
        target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)))
    with pytest.raises(ValueError, match=f"{moved}|must follow it"):
        fw.face.cross_entropy(fw.tensor(RNG.normal(size=(6, 4, 8, 8)).astype(np.float32)), target)
    _, target = how(features, fw.tensor(np.arange(6) % 4), method, step=1)
    assert np.isfinite(fw.numpy(fw.face.cross_entropy(fw.tensor(LOGITS), target)))


@pytest.mark.parametrize("way", ["target", "scope", "loss"])
def test_a_wrapped_model_knows_what_was_mixed(fw, way):
    def size_of(x):
        return x * 1.0

    model = fw.sequential(fw.function(size_of))
    mixer = fw.face.Mixer(model, CutMix(), seed=4)
    x, y = fw.tensor(IMAGES), fw.tensor(MAPS)
    if way == "target":
        _, target = model(x, target=y)
    elif way == "scope":
        with mixer(y) as target:
            model(x)
    else:
        mixer.loss(fw.criterion())
        model(x)
        target = mixer.target_for(y)
    how = target.plan.blend(IMAGES.shape)
    pasted = np.where(how.mask[:, 0], MAPS[how.perm], MAPS)
    found = target.blend(lambda y: fw.tensor(fw.numpy(y).astype(np.float32)), dense=True)
    np.testing.assert_allclose(fw.numpy(found), pasted, atol=1e-6)


def test_a_clean_target_takes_dense_too():
    assert MixedTarget(MAPS).blend(lambda y: y, dense=True) is MAPS
