"""A mixed step of each library, compiled, against mixing between the model's parts by hand."""

import jax
import numpy as np
import optax
import pytest

from mixlayers import CutMix, DropBlock, ManifoldMixup, Mixup, Near, OneOf, PatchUp, Scheduled
from mixlayers.jax import cross_entropy
from tests.jax.jax_libraries import PLACES, batch, by_hand, same

METHODS = [
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample", pairs="different_class"),
    PatchUp("hard", block_size=2),
    PatchUp("soft", lam_per="sample", block_size=3),
    CutMix(lam_per="sample"),
]


def per_sample(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def step_of(lib, mixer):
    """A compiled step: the loss and the gradients."""

    @jax.jit
    def step(model, x, y, plan):
        def loss(model):
            logits, target = lib.forward(mixer, model, x, y, plan)
            return target.blend(lambda y: per_sample(logits, y)).mean()

        return lib.gradients(loss, model)

    return step


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_step_equals_mixing_by_hand(lib, method):
    x, y = batch()
    x, model = lib.images(x), lib.model()
    layers = (["input", "layer2"] if method == METHODS[0] else ["layer2"]) if method.hidden else "auto"
    mixer = lib.mixer(model, method, layers, seed=4)
    step, seen = step_of(lib, mixer), set()
    for _ in range(20):
        plan = mixer.plan(6, labels=y)
        if plan.place in seen:
            continue
        seen.add(plan.place)
        value, gradients = step(model, x, y, plan)
        core = mixer.last
        shape = x.shape if plan.place == "input" else mixer.audit[plan.place].shape
        how = core.blend(shape, lib.channel_dim)

        def loss(model, how=how, place=plan.place):
            logits, s = by_hand(lib, model, x, how, place), how.s
            return ((1 - s) * per_sample(logits, y) + s * per_sample(logits, y[how.perm])).mean()

        expected, wanted = lib.gradients(loss, model)
        np.testing.assert_allclose(value, expected, rtol=2e-6)
        same(gradients, wanted)
        assert core.place == plan.place and core.step == mixer.step - 1
    assert seen == ({"input"} if layers == "auto" else {*layers})


def test_it_compiles_once_a_place_and_without_a_plan_nothing_is_mixed(lib):
    x, y = batch()
    x, model = lib.images(x), lib.model()
    mixer = lib.mixer(model, ManifoldMixup(prob=0.8), PLACES)
    traced = []

    @jax.jit
    def forward(model, x, y, plan):
        traced.append(None if plan is None else plan.place)
        logits, target = lib.forward(mixer, model, x, y, plan)
        return logits, target.blend(lambda y: per_sample(logits, y))

    places = [plan.place for plan in (mixer.plan(6) for _ in range(25)) if forward(model, x, y, plan)]
    assert set(places) == {*PLACES, None} and sorted(map(str, traced)) == sorted(map(str, set(places)))
    assert mixer.history.counts == {place: places.count(place) for place in dict.fromkeys(places)}
    logits, losses = forward(model, x, y, None)
    clean = by_hand(lib, model, x, None, None)
    np.testing.assert_allclose(logits, clean, atol=1e-6)
    np.testing.assert_allclose(losses, per_sample(clean, y), atol=1e-6)


def test_one_compilation_serves_all_places(lib):
    x, y = batch()
    x, models = lib.images(x), [lib.model(), lib.model()]
    method = OneOf({PatchUp("hard", block_size=2, prob=0.8): 1, ManifoldMixup(lam_per="sample"): 1})
    mixers = [
        lib.mixer(model, method, PLACES, seed=1, one_compilation=alike)
        for model, alike in zip(models, (False, True), strict=True)
    ]
    traced = []

    def step(mixer, model, x, y, plan):
        traced.append(plan.places)
        logits, target = lib.forward(mixer, model, x, y, plan)
        return target.blend(lambda y: per_sample(logits, y)).mean()

    compiled = [jax.jit(lambda *args, mixer=mixer: step(mixer, *args)) for mixer in mixers]
    for _ in range(8):
        own, alike = (mixer.plan(6) for mixer in mixers)
        same(compiled[1](models[1], x, y, alike), compiled[0](models[0], x, y, own))
    assert sum(places is not None for places in traced) == 1


def test_a_run_is_resumed_and_seeds_and_ranks_say_all(lib):
    one, other = (lib.mixer(lib.model(), layers=["layer1"], seed=3, rank=2) for _ in range(2))
    for _ in range(3):
        one.plan(6)
    other.load_state_dict(one.state_dict())
    first, second = one.plan(6), other.plan(6)
    assert jax.tree.all(jax.tree.map(np.array_equal, first, second)) and one.step == 4
    core = ManifoldMixup().plan(step=3, batch_size=6, seed=3, rank=2, places=["layer1"])
    assert one.last.to_dict() == core.to_dict() and first.lam == np.float32(core.lam)
    np.testing.assert_array_equal(first.perm, core.perm)


@pytest.mark.parametrize("method", [DropBlock(0.4, 2), Scheduled(DropBlock(0.4, 2), start=1)], ids=repr)
def test_dropblock_keeps_the_labels(lib, method):
    x, y = batch()
    x, model = lib.images(x), lib.model()
    mixer = lib.mixer(model, method, ["layer2"], seed=1)
    plan = [mixer.plan(6) for _ in range(2)][-1]
    logits, target = lib.forward(mixer, model, x, y, plan)
    how = mixer.last.blend(mixer.audit["layer2"].shape, lib.channel_dim)
    for name, stage in lib.stages(model):
        x = stage(x)
        x = np.where(how.mask, how.fill, how.scale * x) if name == "layer2" else x
    np.testing.assert_allclose(logits, x, atol=1e-5)
    assert target.blend(lambda labels: labels) is y and not target.mixed


def test_pairs_by_label_need_the_labels(lib):
    mixer = lib.mixer(lib.model(), ManifoldMixup(pairs=Near("label", 1.0)), ["layer1"])
    with pytest.raises(ValueError, match=r"mixer.plan\(batch_size, labels=labels\), got none"):
        mixer.plan(6)
    perm = mixer.plan(6, labels=np.array([0.0, 90.0, 0.1, 90.1, 0.2, 90.2])).perm
    assert (perm % 2 == np.arange(6) % 2).all()


def test_cross_entropy_is_optax_blended(lib):
    x, y = batch()
    x, model = lib.images(x), lib.model()
    mixer = lib.mixer(model, Mixup())
    plan = mixer.plan(6)
    logits, target = lib.forward(mixer, model, x, y, plan)
    expected = target.blend(lambda y: per_sample(logits, y).mean())
    np.testing.assert_allclose(jax.jit(cross_entropy)(logits, target), expected, rtol=1e-6)
    soft = target.soft(4)
    np.testing.assert_allclose(
        soft, (1 - plan.s) * np.eye(4)[y] + plan.s * np.eye(4)[y[plan.perm]], atol=1e-6
    )
