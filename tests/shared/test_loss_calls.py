"""`mixer.loss` of criteria with several outputs and labels, and of those that return more than a scalar."""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

from mixlayers import Mixup, PatchUp

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 4)).astype(np.float32)
FIRST, SECOND = RNG.integers(3, size=6), RNG.integers(3, size=6)
Losses = namedtuple("Losses", ["one", "two"])


@dataclass
class Parts:
    loss: object
    name: str


def made(fw, lam_per="batch"):
    """A wrapped model of two outputs, its mixer, and what it returned in a mixed forward."""
    model = fw.sequential(fw.linear(4, 3), fw.function(lambda h: (h, h * 2.0)))
    mixer = fw.face.Mixer(model, Mixup(pairs="derangement", lam_per=lam_per))
    return model, mixer


def entropy(fw, output, y):
    return fw.face.cross_entropy(output, y)


def expected(fw, mixer, loss):
    """The blend of a loss of NumPy labels by the last forward's plan."""
    plan = mixer.last
    s = 1.0 - plan.lam
    losses = [
        float(fw.numpy(loss(*(fw.tensor(y) for y in labels))))
        for labels in ((FIRST, SECOND), (FIRST[plan.perm], SECOND[plan.perm]))
    ]
    return (1 - s) * losses[0] + s * losses[1]


@pytest.mark.parametrize(
    ("labels", "named"), [(1, False), ("y", False), ("y", True), ([2], False), (["y"], True)], ids=str
)
def test_several_outputs_and_one_label(fw, labels, named):
    model, mixer = made(fw)

    def both(out, aux, y):
        return entropy(fw, out, y) + entropy(fw, aux, y) * 0.3

    criterion = mixer.loss(both, labels=labels)
    out, aux = model(fw.tensor(IMAGES))
    y = fw.tensor(FIRST)
    loss = criterion(out, aux, y=y) if named else criterion(out, aux, y)
    want = expected(fw, mixer, lambda y, _: both(out, aux, y))
    assert fw.numpy(loss) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("labels", [2, ["y1", "y2"], [2, "y2"]], ids=str)
def test_several_outputs_and_labels(fw, labels):
    """As `paddle.Model` calls its loss."""
    model, mixer = made(fw)

    def both(out, aux, y1, y2):
        return entropy(fw, out, y1) + entropy(fw, aux, y2) * 0.3

    criterion = mixer.loss(both, labels=labels)
    out, aux = model(fw.tensor(IMAGES))
    loss = criterion(out, aux, fw.tensor(FIRST), fw.tensor(SECOND))
    want = expected(fw, mixer, lambda y1, y2: both(out, aux, y1, y2))
    assert fw.numpy(loss) == pytest.approx(want, rel=1e-5)


def test_what_is_ambiguous_raises(fw):
    model, mixer = made(fw)
    criterion = mixer.loss(lambda out, aux, y: entropy(fw, out, y))
    out, aux = model(fw.tensor(IMAGES))
    y = fw.tensor(FIRST)
    with pytest.raises(
        ValueError, match=r"called with 3 arguments, and it cannot be told which are labels.*labels=1"
    ):
        criterion(out, aux, y)
    with pytest.raises(ValueError, match=r"criterion\(output, target\), got 1 positional"):
        criterion(out)
    with pytest.raises(
        ValueError, match="labels=2 of the last arguments are labels, after an output at least, got 2"
    ):
        mixer.loss(lambda out, y: entropy(fw, out, y), labels=2)(out, y)
    with pytest.raises(ValueError, match="names an argument that this call of the criterion does not have"):
        mixer.loss(lambda out, y: entropy(fw, out, y), labels="z")(out, y)
    for labels in (0, [], True, 1.5, [None]):
        with pytest.raises(
            ValueError, match=r"labels must be how many of the last arguments are labels, .* got"
        ):
            mixer.loss(lambda out, y: entropy(fw, out, y), labels=labels)
    mixer.loss(lambda out, aux, y: entropy(fw, out, y), labels=1)(out, aux, y)  # and so the labels were used


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "list", "tuple"])
def test_more_that_has_a_row_a_sample_is_not_passed_over(fw, kind, named):
    """CTC's lengths in a tuple, a second label by keyword: nobody can tell whether it follows the label."""
    model, mixer = made(fw)
    value = {"tensor": fw.tensor(SECOND), "list": SECOND.tolist(), "tuple": tuple(SECOND.tolist())}[kind]

    def both(out, y, other=None, scale=None, names=()):
        return entropy(fw, out, y) + (entropy(fw, out, other) if kind == "tensor" else 0.0)

    criterion = mixer.loss(both, labels=[1, "other"] if named else [1, 2])
    out, _ = model(fw.tensor(IMAGES))
    y = fw.tensor(FIRST)
    way_out = r"labels=\[1, 'other'\]\)" if named else r"labels=\[1, 2\]\)|labels=2 if the last two are"
    with pytest.raises(ValueError, match=way_out):
        mixer.loss(both)(out, y, other=value) if named else mixer.loss(both)(out, y, value)
    if kind == "tensor":
        loss = criterion(out, y, other=value) if named else criterion(out, y, value)
        want = expected(fw, mixer, lambda y, other: entropy(fw, out, y) + entropy(fw, out, other))
        assert fw.numpy(loss) == pytest.approx(want, rel=1e-5)
    else:
        with pytest.raises(ValueError, match=f"6 numbers, one for each sample, in a {kind}"):
            criterion(out, y, other=value) if named else criterion(out, y, value)


def test_a_second_output_is_not_proposed_as_a_label(fw):
    model, mixer = made(fw)

    def both(out, aux, y1, y2):
        return entropy(fw, out, y1) + entropy(fw, aux, y2)

    criterion = mixer.loss(both, labels=["y1", "y2"])
    out, aux = model(fw.tensor(IMAGES))
    labels = {"y1": fw.tensor(FIRST), "y2": fw.tensor(SECOND)}
    with pytest.raises(ValueError, match=r"as in mixer\.loss\(criterion, labels=\['y1', 'y2'\]\)\.$"):
        mixer.loss(both)(out, aux, **labels)
    loss = criterion(out, aux, **labels)
    want = expected(fw, mixer, lambda y1, y2: both(out, aux, y1, y2))
    assert fw.numpy(loss) == pytest.approx(want, rel=1e-5)


def test_what_has_no_row_a_sample_or_is_an_output_passes(fw):
    model, mixer = made(fw)

    def both(out, y, aux=None, weights=(), name=""):
        return entropy(fw, out, y) + entropy(fw, aux, y) * weights[0]

    criterion = mixer.loss(both)
    out, aux = model(fw.tensor(IMAGES))
    loss = criterion(out, fw.tensor(FIRST), aux=aux, weights=[0.3, 0.5], name="sixsix")
    want = expected(fw, mixer, lambda y, _: both(out, y, aux, (0.3,)))
    assert fw.numpy(loss) == pytest.approx(want, rel=1e-5)


def test_a_plain_loss_may_have_anything_beside_its_label(fw):
    """What was not mixed needs no answer."""
    model, mixer = made(fw)
    criterion = mixer.loss(lambda out, y, other=None: entropy(fw, out, other))
    with fw.evaluating(model):
        out, _ = model(fw.tensor(IMAGES))
        plain = fw.numpy(entropy(fw, out, fw.tensor(SECOND)))
        assert fw.numpy(criterion(out, fw.tensor(FIRST), other=fw.tensor(SECOND))) == pytest.approx(plain)


def test_the_second_argument_may_be_named(fw):
    model, mixer = made(fw)
    criterion = mixer.loss(lambda out, truth: entropy(fw, out, truth))
    out, _ = model(fw.tensor(IMAGES))
    want = expected(fw, mixer, lambda y, _: entropy(fw, out, y))
    assert fw.numpy(criterion(out, truth=fw.tensor(FIRST))) == pytest.approx(want, rel=1e-5)
    assert fw.numpy(criterion(out=out, truth=fw.tensor(FIRST))) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("container", ["dict", "tuple", "list", "named", "dataclass"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_losses_that_return_several_values(fw, container, scale):
    """PaddleClas' CombinedLoss returns a dict of them, "loss" the sum."""
    model = fw.sequential(fw.linear(4, 3), fw.function(lambda h: (h, h * 2.0)))
    mixer = fw.face.Mixer(model, PatchUp("soft", block_size=1, loss_scale=scale), layers="0")
    make = {
        "dict": lambda a, b: {"one": a, "two": b, "name": "ce", "samples": 6, "nothing": None},
        "tuple": lambda a, b: (a, b),
        "list": lambda a, b: [a, b],
        "named": Losses,
        "dataclass": lambda a, b: Parts(a, "ce"),
    }[container]

    def both(out, y):
        return make(entropy(fw, out[0], y), entropy(fw, out[1], y))

    criterion = mixer.loss(both)
    output = model(fw.tensor(IMAGES))
    mixed = criterion(output, fw.tensor(FIRST))
    plan, share = mixer.last, mixer.target_for(fw.tensor(FIRST), output).s
    s = share if isinstance(share, float) else float(fw.numpy(share))
    parts = [
        [float(fw.numpy(entropy(fw, out, fw.tensor(y)))) for out in output] for y in (FIRST, FIRST[plan.perm])
    ]
    want = [scale * ((1 - s) * one + s * two) for one, two in zip(*parts, strict=True)]
    assert type(mixed) is type(make(None, None))
    found = {
        "dict": lambda: [mixed["one"], mixed["two"]],
        "tuple": lambda: list(mixed),
        "list": lambda: mixed,
        "named": lambda: [mixed.one, mixed.two],
        "dataclass": lambda: [mixed.loss],
    }[container]()
    np.testing.assert_allclose([fw.numpy(loss) for loss in found], want[: len(found)], rtol=1e-5)
    if container == "dict":
        assert mixed["name"] == "ce" and mixed["samples"] == 6 and mixed["nothing"] is None


def test_losses_of_each_sample_and_several_of_them(fw):
    model, mixer = made(fw, lam_per="sample")

    def each(out, y):
        loss = fw.face.cross_entropy(out, y, reduction="none")
        return {"each": loss, "twice": (loss * 2.0, loss)}

    criterion = mixer.loss(each)
    out, _ = model(fw.tensor(IMAGES))
    mixed = criterion(out, fw.tensor(FIRST))
    plan = mixer.last
    one, two = (fw.numpy(each(out, fw.tensor(y))["each"]) for y in (FIRST, FIRST[plan.perm]))
    want = plan.lam * one + (1 - plan.lam) * two
    np.testing.assert_allclose(fw.numpy(mixed["each"]), want, rtol=1e-5)
    np.testing.assert_allclose(fw.numpy(mixed["twice"][0]), 2 * want, rtol=1e-5)


def test_sides_of_other_structure_are_refused(fw):
    _, target = fw.face.mix(fw.tensor(IMAGES), fw.tensor(FIRST), Mixup(), step=0)
    turns = iter([(1.0, 2.0), (1.0,)])
    with pytest.raises(ValueError, match="differ in structure, tuple of 2 and tuple of 1"):
        target.blend(lambda y: next(turns))
    assert target.blend(lambda y: int(fw.numpy(y)[0])) == pytest.approx(
        FIRST[0] + target.s * (FIRST[target.plan.perm[0]] - FIRST[0])
    ), "whole numbers that differ are blended"
