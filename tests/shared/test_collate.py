"""Loader-side mixing of bytes, and NumPy's own blend, against the reference."""

import mixlayers.chainer  # isort: skip  # before chainer, which it helps to be imported

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mixlayers.paddle
import mixlayers.torch
from mixlayers import CutMix, FMix, ManifoldMixup, Mixup, PatchUp, SpecMix
from mixlayers._core.framework.numpy_arrays import blend
from tests.support import reference

FACES = [mixlayers.torch, mixlayers.paddle, mixlayers.chainer]
METHODS = [Mixup(), Mixup(lam_per="sample"), CutMix(), CutMix(lam_per="sample"), Mixup(prob=0.5)]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_bytes_are_rounded_to_the_nearest_alike_in_every_framework(method):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(9, 3, 8, 8), dtype=np.uint8)
    samples = [(image.copy(), np.int64(i % 4)) for i, image in enumerate(images)]
    collates = [face.MixCollate(method, num_classes=4, seed=2) for face in FACES]
    for step in range(3):
        plan = method.plan(step=step, batch_size=9, seed=2)
        how = plan.blend(images.shape)
        s = np.broadcast_to(how.s if plan.place else 0.0, 9)
        hot = np.eye(4)[np.arange(9) % 4]
        exact = (
            reference.mix(images.astype(np.float64), plan.perm, plan.lam, how.mask) if plan.place else images
        )
        for collate in collates:
            x, y = (np.asarray(part) for part in collate(samples))
            assert x.dtype == np.uint8 and np.abs(x - exact).max() <= 0.5 + 1e-4
            np.testing.assert_allclose(y, (1 - s)[:, None] * hot + s[:, None] * hot[plan.perm], atol=1e-6)
    assert all((sample == image).all() for (sample, _), image in zip(samples, images, strict=True))


@given(
    st.sampled_from(
        [
            Mixup(),
            Mixup(lam_per="sample"),
            CutMix(),
            CutMix(lam_per="sample"),
            PatchUp(),
            PatchUp("soft"),
            ManifoldMixup(),
        ]
    ),
    st.sampled_from([np.float32, np.float64, np.float16]),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_numpy_blends_as_the_reference_does(method, dtype, size, step):
    x = np.random.default_rng(step).normal(size=(size, 2, 5, 4)).astype(dtype)
    before = x.copy()
    plan = method.plan(step=step, batch_size=size, places=("hidden",))
    how = plan.blend(x.shape)
    mixed = blend(x, how)
    assert mixed.dtype == dtype and (x == before).all()
    tolerance = {np.float16: 4e-3, np.float32: 1e-6, np.float64: 1e-12}[dtype]
    np.testing.assert_allclose(mixed, reference.mix(x, plan.perm, plan.lam, how.mask), atol=tolerance)


@pytest.mark.parametrize("method", [CutMix(lam_per="sample"), FMix(), SpecMix()], ids=repr)
def test_a_masks_partner_is_selected_whatever_it_covers(method):
    x = np.random.default_rng(0).normal(size=(4, 1, 16, 16)).astype(np.float32)
    x[0], x[1] = -np.inf, np.nan  # silence in a spectrogram of logarithms; what was not measured
    how = method.plan(step=2, batch_size=4).blend(x.shape)
    assert how.mask[0].any()
    np.testing.assert_array_equal(blend(x, how), np.where(how.mask, x[how.perm], x))


def test_other_integers_are_refused():
    samples = [(np.zeros((3, 4, 4), np.int32), np.int64(0))] * 3
    for face in FACES:
        with pytest.raises(
            ValueError, match=r"mixing at the input needs a floating-point tensor, .* got .*int32"
        ):
            face.MixCollate(Mixup(), num_classes=4)(samples)
