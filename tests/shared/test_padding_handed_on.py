"""Layers that return the mask with the features, for the next one: it is united once, and is no feature."""

import copy
from importlib import import_module

import numpy as np
import pytest

from mixlayers import DropBlock
from tests.support.padded import DERANGED, KINDS, REAL, batch, check_masks, network


@pytest.fixture(params=["torch", "paddle"])  # Chainer's links take no masks
def fw(request):
    return getattr(import_module(f"tests.support.fw_{request.param}"), request.param.title())()


def handing_on(fw, kind="bool", every=1):
    """The network whose first three layers return their masks; the third every other step, or all."""
    (model, Recomputed) = network(fw, kind)
    attend = type(model.first)

    class Handing(attend):
        def forward(self, x, attention_mask):
            return attend.forward(self, x, attention_mask), attention_mask

    class Thinning(attend):
        def forward(self, x, attention_mask):
            mask = attention_mask if every == 1 else attention_mask[:, ::every]
            return attend.forward(self, x, attention_mask)[:, ::every], mask

    class Chain(type(model)):
        def forward(self, x, attention_mask):
            x, mask = self.first(x, attention_mask=attention_mask)
            x, mask = self.second(x, mask)
            x, mask = self.again(self.third, x, mask)
            return self.head(self.again(self.last, x, mask).sum(1))

    class RecomputedChain(Chain):
        again = Recomputed.again

    model.first.__class__ = model.second.__class__ = Handing
    model.third.__class__, model.__class__ = Thinning, Chain
    return model, RecomputedChain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("place", "own"), [("input", 0), ("first", 1), ("second", 2)])
def test_a_mask_that_layers_hand_on_is_united_once(fw, kind, place, own):
    """Also where the same mask comes again with the next step."""
    (model, _), (x, mask, y) = handing_on(fw, kind), batch(fw, kind)
    fw.face.wrap(model, DERANGED, place, mask={"attention_mask": KINDS[kind][1]}, example=(x, mask))
    for _ in range(2):
        _, target = model(x, attention_mask=mask, target=y)
        check_masks(model, target, own)


@pytest.mark.parametrize("recomputed", [True, False])
@pytest.mark.parametrize("every", [1, 2])
def test_values_and_gradients_are_those_of_mixing_by_hand(fw, recomputed, every):
    (model, Recomputed), (x, mask, y) = handing_on(fw, every=every), batch(fw)
    plain = copy.deepcopy(model)
    if recomputed:
        model.__class__ = Recomputed
    fw.face.wrap(model, DERANGED, "first", mask="attention_mask")
    output, target = model(x, mask, target=y)
    plan = target.plan
    fw.face.cross_entropy(output, target).backward()

    either = fw.tensor(REAL | REAL[plan.perm])
    h = fw.by_hand(plain.first(x, mask)[0], plan.perm, plan.lam, None)
    h = plain.third(plain.second(h, either)[0], either)[0]
    expected = plain.head(plain.last(h, either[:, ::every]).sum(1))
    fw.close(output, expected)
    partner = fw.tensor(fw.numpy(y).astype(int)[plan.perm])
    loss = plan.lam * fw.cross_entropy(expected, y) + (1 - plan.lam) * fw.cross_entropy(expected, partner)
    loss.backward()
    fw.same_gradients(model, plain)


def test_no_zeros_are_dropped_into_a_mask(fw):
    (model, _), (x, mask, y) = handing_on(fw, "additive"), batch(fw, "additive")
    fw.face.wrap(model, DropBlock(drop=0.5, block_size=1), "first", mask="attention_mask")
    model(x, mask, target=y)
    for seen in model.masks():
        np.testing.assert_array_equal(seen, REAL)
