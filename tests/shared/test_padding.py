"""Padded sequences: the mask follows the mixed features."""

import copy
from importlib import import_module

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, MixingError, Mixup, Near, OneOf, PatchUp
from mixlayers._core.batch.token_masks import mask_meanings, union
from tests.support.padded import DERANGED, KINDS, REAL, SIZE, batch, check_masks, network


@pytest.fixture(params=["torch", "paddle"])  # Chainer's links take no masks, see below
def fw(request):
    return getattr(import_module(f"tests.support.fw_{request.param}"), request.param.title())()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("place", "own"), [("input", 0), ("first", 1), ("third", 3)])
def test_layers_after_the_mixed_one_see_either_samples_tokens(fw, kind, place, own):
    """One permutation, applied once: to join masks twice would bring in the partner's partner."""
    (model, _), (x, mask, y) = network(fw, kind), batch(fw, kind)
    fw.face.wrap(model, DERANGED, place, mask={"attention_mask": KINDS[kind][1]}, example=(x, mask))
    _, target = model(x, attention_mask=mask, target=y)
    check_masks(model, target, own)


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("recomputed", [True, False])
def test_values_and_gradients_are_those_of_mixing_by_hand(fw, positional, recomputed):
    (model, Recomputed), (x, mask, y) = network(fw), batch(fw)
    plain = copy.deepcopy(model)
    if recomputed:
        model.__class__ = Recomputed
    fw.face.wrap(model, DERANGED, "second", mask="attention_mask")
    call = ((x, mask), {}) if positional else ((x,), {"attention_mask": mask})
    output, target = model(*call[0], **call[1], target=y)
    plan = target.plan
    fw.face.cross_entropy(output, target).backward()

    either = fw.tensor(REAL | REAL[plan.perm])
    h = plain.second(plain.first(x, mask), mask)
    h = fw.by_hand(h, plan.perm, plan.lam, None)
    expected = plain.head(plain.last(plain.third(h, either), either).sum(1))
    fw.close(output, expected)
    partner = fw.tensor(fw.numpy(y).astype(int)[plan.perm])
    loss = plan.lam * fw.cross_entropy(expected, y) + (1 - plan.lam) * fw.cross_entropy(expected, partner)
    loss.backward()
    fw.same_gradients(model, plain)


def test_two_recomputed_forwards_keep_their_masks(fw):
    """Their backward passes come after both, in one."""
    (model, Recomputed), (x, mask, y) = network(fw), batch(fw)
    twin = copy.deepcopy(model)
    model.__class__ = Recomputed
    for one in (model, twin):
        fw.face.wrap(one, DERANGED, "second", mask="attention_mask")
        losses = []
        for _ in range(2):
            output, target = one(x, mask, target=y)
            losses.append(fw.face.cross_entropy(output, target))
            one(x, mask, target=y)[1].partner  # noqa: B018  # and one that is dropped
        for loss in losses[::-1] if fw.name == "torch" else losses[:0]:
            loss.backward()
        if fw.name != "torch":
            (losses[0] + losses[1]).backward()
    fw.same_gradients(model, twin)


def test_nothing_changes_unless_mixed(fw):
    (model, _), (x, mask, y) = network(fw), batch(fw)
    plain = copy.deepcopy(model)
    fw.face.wrap(model, ManifoldMixup(prob=0.4), "first", mask="attention_mask")
    with fw.evaluating(model, plain):
        output, _ = model(x, mask, target=y)
        assert fw.equal(output, plain(x, mask))
    assert fw.equal(model(x, mask), plain(x, mask))
    layers = set()
    for _ in range(8):
        output, target = model(x, mask, target=y)
        layers.add(target.layer)
        if target.layer is None:
            assert fw.equal(output, plain(x, mask)) and target.s == 0.0
        target.partner  # noqa: B018
    assert layers == {None, "first"}
    fw.face.unwrap(model)
    assert fw.untouched(model)


def test_copies_mask_too(fw):
    (model, _), (x, mask, y) = network(fw), batch(fw)
    fw.face.wrap(model, DERANGED, "first", mask="attention_mask")
    model(x, mask, target=y)[1].partner  # noqa: B018
    twin = copy.deepcopy(model)
    _, target = twin(x, mask, target=y)
    np.testing.assert_array_equal(twin.masks()[-1], REAL | REAL[target.plan.perm])
    assert target.partner is not None


def test_a_mask_for_all_samples_stays_and_a_wrong_one_is_refused(fw):
    (model, _), (x, _, y) = network(fw), batch(fw)
    fw.face.wrap(model, DERANGED, "first", mask="attention_mask")
    shared = fw.tensor(REAL[1:2])
    _, target = model(x, shared, target=y)
    np.testing.assert_array_equal(model.masks()[-1], REAL[1:2])
    assert target.partner is not None
    fw.face.wrap(fw.face.unwrap(model), DERANGED, "input", mask="attention_mask")
    with pytest.raises(MixingError, match=r"batch of 5 on its first axis.*got shape \(3, 7\)"):
        model(x, attention_mask=fw.tensor(REAL[:3]), target=y)


def test_a_mask_that_never_comes_is_an_error(fw):
    (model, _), (x, mask, y) = network(fw), batch(fw)
    fw.face.wrap(model, DERANGED, "first", mask="attention_mask")
    with pytest.raises(MixingError, match=r"no layer was given a mask as 'attention_mask'.*leave mask= out"):
        model(x, target=y)
    model(x, mask, target=y)[1].partner  # noqa: B018  # the next step is a fresh one


def test_an_unnamed_mask_is_refused_and_named(fw):
    """Also where the user says that nothing is padded; who trusts the layer is warned once."""
    x, mask, y = batch(fw)
    for settings in ({}, {"mask": ()}):
        model = fw.face.wrap(network(fw)[0], DERANGED, "first", **settings)
        with pytest.raises(
            ValueError, match=r"'attention_mask' reaches it another way.*mask='attention_mask'.*trust="
        ):
            model(x, attention_mask=mask, target=y)
    model = fw.face.wrap(network(fw)[0], DERANGED, "first", trust=True)
    with pytest.warns(UserWarning, match="Give mask='attention_mask', or mask=\\(\\) if nothing is padded"):
        model(x, attention_mask=mask, target=y)[1].partner  # noqa: B018
    model(x, attention_mask=mask, target=y)[1].partner  # noqa: B018
    quiet, _ = network(fw)
    fw.face.wrap(quiet, DERANGED, "first", mask=(), trust=["first"])
    quiet(x, attention_mask=mask, target=y)[1].partner  # noqa: B018


def test_partners_of_like_length(fw):
    (model, _), (x, mask, y) = network(fw), batch(fw)
    fw.face.wrap(model, ManifoldMixup(pairs=Near("length", 0.01)), "first", mask="attention_mask")
    _, target = model(x, mask, target=y)
    assert (target.plan.perm == np.arange(SIZE)).all() and target.partner is not None  # all lengths differ
    with pytest.raises(ValueError, match="needs the padding mask, or lengths"):
        model(x, target=y)
    blind, _ = network(fw)
    fw.face.wrap(blind, ManifoldMixup(pairs=Near("length", 1.0)), "first")
    with pytest.raises(ValueError, match="name its argument as mask="):
        blind(x, target=y)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mask": "mask"}, "neither the model nor one of its layers has an argument 'mask'"),
        ({"mask": {"attention_mask": "padded"}}, "must be 'real' or 'ignored'"),
        ({"share": "tokens"}, "name its argument, as mask='attention_mask'"),
        ({"share": "words", "mask": "attention_mask"}, "must be 'features' or 'tokens'"),
        ({"share": "tokens", "mask": "attention_mask", "method": PatchUp()}, "replaces parts of them"),
        (
            {"share": "tokens", "mask": "attention_mask", "method": OneOf({Mixup(): 1, CutMix(): 1})},
            "replaces parts",
        ),
    ],
)
def test_wrong_options_are_refused_and_leave_no_hook(fw, options, says):
    model, _ = network(fw)
    with pytest.raises(ValueError, match=says):
        fw.face.wrap(model, **options)
    assert fw.untouched(model)


def test_meanings():
    assert mask_meanings(None) == mask_meanings(()) == {}
    assert mask_meanings("attention_mask") == {"attention_mask": "real"}
    assert mask_meanings(["src_key_padding_mask", "lengths"]) == {
        "src_key_padding_mask": "ignored",
        "lengths": "real",
    }
    assert mask_meanings({"pad": "ignored"}) == {"pad": "ignored"}


def test_chainer_refuses_masks():
    face = import_module("mixlayers.chainer")  # before chainer, which it helps to be imported
    from tests.chainer.chainer_networks import Net

    with pytest.raises(ValueError, match="Chainer's links take no padding masks"):
        face.wrap(Net(), mask="attention_mask")


@pytest.mark.parametrize("kind", KINDS)
def test_the_union_is_either_samples_in_numpy_too(kind):
    from mixlayers._core.framework.numpy_arrays import NUMPY

    mask, meaning, real = KINDS[kind]
    perm = np.array([1, 2, 3, 4, 0])
    np.testing.assert_array_equal(real(union(NUMPY, mask, mask[perm], meaning)), REAL | REAL[perm])


FULL = {
    "bool": np.ones_like(REAL),
    "ignored int": np.zeros(REAL.shape, np.int64),
    "lengths": np.full(SIZE, 7),
}


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize("full", [1, 2, 4])
def test_the_first_padded_batch_is_proved_before_it_is_mixed(fw, kind, full):
    """A model that pools by the mask itself is right as long as nothing is padded, and nothing may wait for a round."""
    (model, _), (x, mask, y) = network(fw, kind), batch(fw, kind)

    class Pooling(type(model)):
        def forward(self, x, attention_mask):
            x = self.first(x, attention_mask=attention_mask)
            real = fw.tensor(KINDS[kind][2](fw.numpy(attention_mask)).astype(np.float32)).unsqueeze(-1)
            return self.head((x * real).sum(1))

    model.__class__ = Pooling
    fw.face.wrap(model, DERANGED, "first", mask={"attention_mask": KINDS[kind][1]})
    for _ in range(full):
        assert model(x, attention_mask=fw.tensor(FULL[kind]), target=y)[1].mixed
    with pytest.raises(MixingError, match=r"'first' is not a true mixing point in this batch, though not in"):
        model(x, attention_mask=mask, target=y)
