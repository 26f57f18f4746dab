"""The three ways to mix, and that the model stays the user's own: in every framework."""

import copy
import pickle
import random
import warnings

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, MixedTarget, Mixup, OneOf, PatchUp, Scheduled
from mixlayers.presets import PRESETS
from tests.support import reference

LAYERS = ["layer1", "layer2"]


class ByHand:
    """Mixes one of its layers by the framework's own operators."""

    def trunk(self, x):
        x = self.stem(x)
        for name in ("layer1", "layer2", "layer3"):
            x = getattr(self, name)(x)
            if name == self.place:
                x = self.mixing(x)
        return x


@pytest.mark.parametrize(
    "method", [ManifoldMixup(), PatchUp("hard", block_size=3), PatchUp("soft")], ids=repr
)
def test_the_explicit_step_equals_mixing_by_hand(fw, method):
    plain, model, (x, y) = fw.net(ByHand), fw.face.wrap(fw.net(), method, LAYERS), fw.batch()
    places = set()
    for _ in range(6):
        output, target = model(x, target=y)
        fw.face.cross_entropy(output, target).backward()
        plan = fw.face.get_mixer(model).last
        places.add(plan.place)
        how = plan.blend((6, 6, 8, 8))
        plain.place = plan.place
        plain.mixing = lambda x, plan=plan, how=how: fw.by_hand(x, plan.perm, plan.lam, how.mask)
        expected = plain(x)
        fw.close(output, expected)
        soft = reference.soft_target(fw.numpy(y).astype(int), plan.perm, how.s, 4)
        fw.face.cross_entropy(expected, fw.tensor(soft.astype(np.float32))).backward()
    assert places == set(LAYERS)
    fw.same_gradients(model, plain)
    for name, value in fw.state(model).items():
        np.testing.assert_allclose(value, fw.state(plain)[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_three_ways_are_one(fw):
    x, y = fw.batch()
    models, losses = [], []
    for way in ("target", "scope", "loss"):
        model = fw.net()
        mixer = fw.face.Mixer(model, PatchUp("soft"), ["input", *LAYERS], seed=3)
        if way == "target":
            loss = fw.face.cross_entropy(*model(x, target=y))
        elif way == "scope":
            with mixer(y) as target:
                output = model(x)
            loss = target.blend(lambda label, output=output: fw.cross_entropy(output, label))
        else:
            loss = mixer.loss(fw.criterion())(model(x), y)
        loss.backward()
        models.append(model)
        losses.append(fw.numpy(loss))
    np.testing.assert_allclose(losses[1:], losses[0], rtol=1e-6)
    fw.same_gradients(models[0], models[1])
    fw.same_gradients(models[0], models[2])


def test_nothing_is_mixed_unless_asked(fw):
    plain, model, (x, y) = fw.net(), fw.face.wrap(fw.net(), layers=LAYERS), fw.batch()
    mixer = fw.face.get_mixer(model)
    assert fw.equal(model(x), plain(x))
    with fw.no_grad():
        output, target = model(x, target=y)
        assert fw.equal(output, plain(x))
    assert (target.s, target.layer, target.mixed, target.y is y) == (0.0, None, False, True)
    with fw.evaluating(plain, model):
        with mixer(y) as target:
            output = model(x)
        assert fw.equal(output, plain(x)) and target.blend(lambda label: label is y)
        assert fw.equal(mixer.loss(fw.criterion())(model(x), y), fw.cross_entropy(plain(x), y))
    assert mixer.step == 0


def test_the_model_stays_what_it_was(fw):
    model, (x, y) = fw.net(), fw.batch()
    outside = fw.outside(model)
    with fw.evaluating(model):
        before = model(x)
    assert fw.face.wrap(model, example=x) is model and isinstance(model, fw.Net)
    fw.face.cross_entropy(*model(x, target=y)).backward()
    assert fw.outside(model) == outside
    fresh = fw.net(seed=5)
    fw.load(fresh, fw.state(model))
    assert fw.face.unwrap(model) is model
    assert fw.untouched(model) and fw.outside(model) == outside and type(model) is fw.Net
    with fw.evaluating(model, fresh):
        assert fw.equal(model(x), fresh(x)) and not fw.equal(model(x), before)
    with pytest.raises(ValueError, match="not wrapped"):
        fw.face.unwrap(model)


def test_auto_chooses_at_the_first_batch_or_from_an_example(fw):
    x, y = fw.batch()
    early, late = fw.face.wrap(fw.net(), example=x), fw.face.wrap(fw.net())
    places = [fw.face.get_mixer(model).places for model in (early, late)]
    assert places == [("input", "layer1", "layer2"), None]
    late(x, target=y)
    assert fw.face.get_mixer(late).places == ("input", "layer1", "layer2")
    every = fw.face.wrap(fw.net(), layers="stages", example=(x,))
    assert fw.face.get_mixer(every).places == ("input", "layer1", "layer2", "layer3")


@pytest.mark.parametrize(
    "method", [Mixup(), CutMix(), OneOf({Mixup(): 1.0, CutMix(): 1.0}), Scheduled(Mixup())]
)
def test_input_methods_need_no_layers(fw, method):
    model, (x, y) = fw.face.wrap(fw.net(), method), fw.batch()
    kept = fw.numpy(x).copy()
    output, target = model(x, target=y)
    fw.face.cross_entropy(output, target).backward()
    assert target.layer == "input" and np.array_equal(fw.numpy(x), kept)
    assert 0.0 <= fw.numpy(fw.face.accuracy(output, target)) <= 1.0


def test_input_presets_attach_as_they_stand(fw):
    for name in ("mixup-cifar", "cutmix-imagenet"):
        mixer = fw.face.Mixer(fw.net(), PRESETS[name].method, PRESETS[name].layers)
        assert mixer.places == ("input",)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("when", ["before", "after a step"])
def test_a_copy_has_its_own_mixer_and_weights(fw, copied, when):
    model, (x, y) = fw.face.wrap(fw.net(), layers=lambda name, layer: name in LAYERS), fw.batch()
    mixer = fw.face.get_mixer(model)
    if when != "before":
        model(x, target=y)[1].blend(lambda label: label)
    twin = copied(model)
    its = fw.face.get_mixer(twin)
    assert its is not mixer and its.step == mixer.step and isinstance(twin, fw.Net)
    step = mixer.step
    fw.load(twin, fw.state(fw.net(seed=9)))
    ours, theirs = model(x, target=y)[0], twin(x, target=y)[0]
    assert not fw.equal(ours, theirs) and mixer.last.to_dict() == its.last.to_dict()
    assert (mixer.step, its.step) == (step + 1, step + 1)
    fw.face.unwrap(twin)
    assert fw.untouched(twin)
    assert fw.face.get_mixer(model) is mixer and fw.hooks(model.layer1) == 1


def test_resume_equals_an_uninterrupted_run(fw):
    x, y = fw.batch()

    def start():
        model = fw.face.wrap(fw.net(), layers=LAYERS, seed=11)
        return model, fw.learner(model, 0.1)

    def steps(model, learn, count):
        for _ in range(count):
            learn(fw.face.cross_entropy(*model(x, target=y)))

    whole, learn = start()
    steps(whole, learn, 7)
    first, learn = start()
    steps(first, learn, 4)
    saved = copy.deepcopy((fw.state(first), fw.face.get_mixer(first).state_dict()))
    second, learn = start()
    fw.load(second, saved[0])
    mixer = fw.face.get_mixer(second)
    mixer.load_state_dict(saved[1])
    steps(second, learn, 3)
    assert saved[1] == {"step": 4} and mixer.step == fw.face.get_mixer(whole).step == 7
    for name, value in fw.state(whole).items():
        assert np.array_equal(value, fw.state(second)[name]), name
    with pytest.raises(ValueError, match=r'\{"step": n\}'):
        mixer.load_state_dict({"epoch": 3})
    for step in (True, 1.0, -1, "3"):
        with pytest.raises(ValueError, match=r"state is \{\"step\": n\} with n >= 0, got"):
            mixer.load_state_dict({"step": step})
    mixer.load_state_dict({"step": np.int64(3)})
    assert mixer.step == 3 and type(mixer.step) is int


def test_global_random_states_do_not_move(fw):
    model, (x, y) = fw.face.wrap(fw.net(), PatchUp("soft")), fw.batch()
    fw.seed(1)
    drawn = fw.random()
    fw.seed(1)
    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    fw.face.cross_entropy(*model(x, target=y)).backward()  # the audit of the first batch included
    assert before == (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    assert np.array_equal(fw.random(), drawn)


def test_the_audit_does_not_move_the_global_random_state(fw):
    class Draws:
        def forward(self, x):
            fw.random()
            return super().forward(x)

    model, (x, y) = fw.face.wrap(fw.net(Draws), layers=["layer1"]), fw.batch()
    fw.seed(3)
    model(x, target=y)  # audits its place
    audited = fw.random()
    plain = fw.net(Draws)
    fw.seed(3)
    plain(x)
    assert np.array_equal(audited, fw.random())


def test_labels_may_be_soft_or_several(fw):
    model, (x, y) = fw.face.wrap(fw.net(), Mixup(lam_per="sample", pairs="different_class")), fw.batch()
    labels = fw.numpy(y).astype(int)
    _, target = model(x, target=fw.soft_labels(labels, 4))
    assert (labels[target.plan.perm] != labels).any()
    np.testing.assert_allclose(fw.numpy(target.soft(4)).sum(1), 1.0, rtol=1e-6)
    model = fw.face.wrap(fw.net(), ManifoldMixup(), LAYERS)
    colour = fw.tensor(labels.astype(np.float32))
    _, target = model(x, target={"shape": y, "colour": colour})
    loss = target.blend(lambda both: fw.numpy(both["colour"]).mean() + fw.numpy(both["shape"]).mean())
    assert isinstance(target, MixedTarget) and loss == pytest.approx(2 * labels.mean(), rel=1e-6)


def test_blocks_that_cover_a_map_are_warned_of_once(fw):
    """Published gamma and block_size, on the maps of a small network: hardly a feature is left where it was."""
    gamma = {"torch": 0.51, "paddle": 0.52, "chainer": 0.53}.get(fw.name, 0.54)  # once for each
    model, (x, y) = fw.face.wrap(fw.net(), PatchUp("hard", gamma=gamma), layers=["layer1"]), fw.batch()
    says = rf"gamma={gamma} and block_size=7 replaces \d+% of a map of .*portion=0.3"
    with pytest.warns(UserWarning, match=says):
        output, target = model(x, target=y)
    fw.face.cross_entropy(output, target).backward()
    other = fw.face.wrap(fw.net(), PatchUp("hard", gamma=gamma), layers=["layer1"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="PatchUp")
        fw.face.cross_entropy(*other(x, target=y)).backward()
    spared = fw.face.wrap(fw.net(), PatchUp("hard", portion=0.3), layers=["layer1"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="PatchUp")
        fw.face.cross_entropy(*spared(x, target=y)).backward()
