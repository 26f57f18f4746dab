"""Tokens weigh the label: a sample's share is that of its real tokens."""

from importlib import import_module

import numpy as np
import pytest

from mixlayers import ManifoldMixup, MoEx, Remix
from tests.support import reference
from tests.support.padded import DERANGED, KINDS, LENGTHS, SIZE, STEPS, batch, network


@pytest.fixture(params=["torch", "paddle"])  # Chainer's links take no masks, see test_padding.py
def fw(request):
    return getattr(import_module(f"tests.support.fw_{request.param}"), request.param.title())()


@pytest.mark.parametrize("kind", ["bool", "int", "ignored bool", "ignored int", "lengths"])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("way", ["target", "scope", "loss"])
def test_tokens_weigh_the_label(fw, kind, lam_per, way):
    (model, _), (x, mask, y) = network(fw, kind), batch(fw, kind)
    method = ManifoldMixup(pairs="derangement", lam_per=lam_per)
    mixer = fw.face.Mixer(
        model, method, "first", mask={"attention_mask": KINDS[kind][1]}, share="tokens", example=(x, mask)
    )
    if way == "target":
        _, target = model(x, mask, target=y)
    elif way == "scope":
        with mixer(y) as target:
            model(x, mask)
    else:
        mixer.loss(fw.criterion())
        model(x, mask)
        target = mixer.target_for(y)
    expected = reference.token_share(LENGTHS, target.plan.perm, target.plan.lam)
    np.testing.assert_allclose(fw.numpy(target.s), expected, rtol=1e-6)
    soft = reference.soft_target(fw.numpy(y).astype(int), target.plan.perm, expected, 3)
    np.testing.assert_allclose(fw.numpy(target.soft(3)), soft, rtol=1e-6, atol=1e-7)


def test_two_empty_samples_keep_their_labels(fw):
    (model, _), (x, _, y) = network(fw), batch(fw)
    fw.face.wrap(model, DERANGED, "first", mask="attention_mask", share="tokens")
    _, target = model(x, fw.tensor(np.zeros((SIZE, STEPS), bool)), target=y)
    assert not fw.numpy(target.s).any() and target.partner is not None


def test_tokens_cannot_be_counted_in_every_mask(fw):
    kind = "additive"
    (model, _), (x, mask, y) = network(fw, kind), batch(fw, kind)
    fw.face.wrap(model, DERANGED, "first", mask="attention_mask", share="tokens", example=(x, mask))
    with pytest.raises(ValueError, match="a mask \\(N, T\\) of bools or whole numbers"):
        model(x, mask, target=y)


@pytest.mark.parametrize("method", [MoEx(), Remix(ManifoldMixup(), counts=(5, 5))], ids=repr)
def test_tokens_are_no_share_where_lam_is_none(fw, method):
    """MoEx's lam is 0 and its label keeps half; Remix gives labels away."""
    with pytest.raises(ValueError, match="gives labels another share than lam"):
        fw.face.wrap(fw.mlp(4, 4, 2), method, "0", mask="attention_mask", share="tokens")
