"""Padded sequences: the mask follows the mixed features, and tokens can weigh the label."""

import copy
from importlib import import_module

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, MixingError, Mixup, Near, OneOf, PatchUp
from mixlayers import _reference as reference
from mixlayers._token_masks import mask_meanings, union

LENGTHS, STEPS = np.array([7, 2, 5, 3, 1]), 7
SIZE = len(LENGTHS)
REAL = np.arange(STEPS) < LENGTHS[:, None]
DERANGED = ManifoldMixup(pairs="derangement")
KINDS = {
    "bool": (REAL, "real", lambda m: m),
    "int": (REAL.astype(np.int64), "real", lambda m: m > 0),
    "ignored bool": (~REAL, "ignored", lambda m: ~m),
    "ignored int": ((~REAL).astype(np.int64), "ignored", lambda m: m == 0),
    "additive": (np.where(REAL, 0.0, -np.inf).astype(np.float32), "real", lambda m: m == 0),
    "additive 4-D": (
        np.where(REAL, 0.0, -1e9).astype(np.float32)[:, None, None].repeat(STEPS, 2),
        "ignored",
        lambda m: m[:, 0, 0] == 0,
    ),
    "lengths": (LENGTHS, "real", lambda m: np.arange(STEPS) < m[:, None]),
}


@pytest.fixture(params=["torch", "paddle"])  # Chainer's links take no masks, see below
def fw(request):
    return getattr(import_module(f"fw_{request.param}"), request.param.title())()


def network(fw, kind="bool"):
    """Four layers of attention by the mask's mean; the second takes the mask by position, the last is nested."""
    base = fw.Net.__bases__[0]
    real = KINDS[kind][2]

    class Attend(base):
        def __init__(self):
            super().__init__()
            self.linear, self.seen = fw.linear(4, 4), []

        def forward(self, x, attention_mask=None):
            mask = np.ones((len(x), STEPS), bool)
            if attention_mask is not None:
                mask = real(attention_mask.numpy())
                self.seen.append(mask)
            weights = fw.tensor(mask.astype(np.float32)).unsqueeze(-1)
            return x + self.linear(x + (x * weights).sum(1, keepdim=True))

    class Nested(base):
        def __init__(self):
            super().__init__()
            self.inner = Attend()

        def forward(self, x, attention_mask):
            return self.inner(x, attention_mask=attention_mask)

    class Encoder(base):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third, self.last = Attend(), Attend(), Attend(), Nested()
            self.head = fw.linear(4, 3)

        def again(self, layer, x, mask):
            return layer(x, attention_mask=mask)

        def forward(self, x, attention_mask=None):
            x = self.first(x, attention_mask=attention_mask)
            x = self.second(x, attention_mask)
            x = self.again(self.third, x, attention_mask)
            x = self.again(self.last, x, attention_mask)
            return self.head(x.sum(1))

        def masks(self):
            return [layer.seen[-1] for layer in (self.first, self.second, self.third, self.last.inner)]

    class Recomputed(Encoder):
        def again(self, layer, x, mask):
            return fw.recompute(layer, x, mask)

    fw.seed(0)
    return Encoder(), Recomputed


def batch(fw, kind="bool"):
    x = np.random.default_rng(3).normal(size=(SIZE, STEPS, 4)).astype(np.float32)
    return fw.tensor(x), fw.tensor(KINDS[kind][0]), fw.tensor(np.arange(SIZE) % 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("place", "own"), [("input", 0), ("first", 1), ("third", 3)])
def test_layers_after_the_mixed_one_see_either_samples_tokens(fw, kind, place, own):
    """One permutation, applied once: to join masks twice would bring in the partner's partner."""
    (model, _), (x, mask, y) = network(fw, kind), batch(fw, kind)
    fw.face.wrap(model, DERANGED, place, mask={"attention_mask": KINDS[kind][1]}, example=(x, mask))
    _, target = model(x, attention_mask=mask, target=y)
    perm = target.plan.perm
    either = REAL | REAL[perm]
    assert target.partner is not None and (either != (either | REAL[perm][perm])).any()
    for index, seen in enumerate(model.masks()):
        np.testing.assert_array_equal(seen, REAL if index < own else either)


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


def test_an_unnamed_mask_is_warned_of_once(fw):
    (model, _), (x, mask, y) = network(fw), batch(fw)
    fw.face.wrap(model, DERANGED, "first")
    with pytest.warns(UserWarning, match="Give mask='attention_mask', or mask=\\(\\) if nothing is padded"):
        model(x, attention_mask=mask, target=y)[1].partner  # noqa: B018
    model(x, attention_mask=mask, target=y)[1].partner  # noqa: B018
    quiet, _ = network(fw)
    fw.face.wrap(quiet, DERANGED, "first", mask=())
    quiet(x, attention_mask=mask, target=y)[1].partner  # noqa: B018


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
    from chainer_networks import Net

    import mixlayers.chainer

    with pytest.raises(ValueError, match="Chainer's links take no padding masks"):
        mixlayers.chainer.wrap(Net(), mask="attention_mask")


@pytest.mark.parametrize("kind", KINDS)
def test_the_union_is_either_samples_in_numpy_too(kind):
    from mixlayers._arrays import NUMPY

    mask, meaning, real = KINDS[kind]
    perm = np.array([1, 2, 3, 4, 0])
    np.testing.assert_array_equal(real(union(NUMPY, mask, mask[perm], meaning)), REAL | REAL[perm])
