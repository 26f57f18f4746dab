"""Steps as they really are, in every framework: recomputation, accumulation, two models, validation."""

import copy
import pickle

import numpy as np
import pytest

from mixlayers import ManifoldMixup, PatchUp

METHODS = [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)]
LAYERS = ["layer1", "layer2"]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_recomputed_layers_are_mixed_alike_in_backward(fw, method):
    (x, y), models = fw.batch(), []
    for kind in (None, *fw.Recomputed):
        model = fw.face.wrap(fw.net(kind), method, LAYERS, seed=2)
        for _ in range(4):
            fw.face.cross_entropy(*model(x, target=y)).backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0])


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_several_forwards_before_one_backward_recompute_with_their_own_plans(fw, method):
    """Paddle's and Chainer's backward passes run through the forwards side by side, not one after the other."""
    (x, y), models = fw.batch(), []
    for kind in (None, *fw.Recomputed):
        model = fw.face.wrap(fw.net(kind), method, LAYERS)
        losses = [fw.face.cross_entropy(*model(x * scale, target=y)) for scale in (1.0, 2.0, 3.0)]
        with fw.evaluating(model):
            model(x)
        sum(losses).backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0])


def test_a_clean_forward_is_recomputed_clean(fw):
    """The last mixed forward's plan must not leak into the recomputation of a clean one."""
    models, (x, y) = [], fw.batch()
    for kind in (None, *fw.Recomputed):
        model = fw.face.wrap(fw.net(kind), layers=["layer1"])
        mixed = fw.face.cross_entropy(*model(x, target=y))
        (mixed + fw.cross_entropy(model(x), y)).backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0])


@pytest.mark.parametrize("way", ["target", "scope", "loss"])
@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_whole_model_recomputed_replays_its_plan(fw, way, place):
    (x, y), models = fw.batch(), []
    for recomputed in (False, True):
        model = fw.net()
        mixer = fw.face.Mixer(model, PatchUp("soft"), [place])

        def run(*args, model=model, recomputed=recomputed, **kwargs):
            return fw.recompute(model, *args, **kwargs) if recomputed else model(*args, **kwargs)

        if way == "target":
            loss = fw.face.cross_entropy(*run(x, target=y))
        elif way == "scope":
            with mixer(y) as target:
                output = run(x)
            loss = fw.face.cross_entropy(output, target)
        else:
            loss = mixer.loss(fw.criterion())(run(x), y)
        loss.backward()
        assert mixer.step == 1
        models.append(model)
    fw.same_gradients(*models)


def test_gradient_accumulation_draws_a_plan_for_each_part(fw):
    model, (x, y) = fw.face.wrap(fw.net(), layers=["layer1"]), fw.batch()
    seen, total = [], {}
    for part in range(3):
        (fw.face.cross_entropy(*model(x, target=y)) / 3).backward()
        seen.append(fw.face.get_mixer(model).last)
        one = fw.face.wrap(fw.net(), layers=["layer1"])
        fw.face.get_mixer(one).load_state_dict({"step": part})
        (fw.face.cross_entropy(*one(x, target=y)) / 3).backward()
        total = {name: total.get(name, 0) + gradient for name, gradient in fw.gradients(one).items()}
    assert len({plan.lam for plan in seen}) == 3 and [plan.step for plan in seen] == [0, 1, 2]
    for name, gradient in fw.gradients(model).items():
        np.testing.assert_allclose(gradient, total[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_two_wrapped_models_in_one_step_keep_apart(fw):
    x, y = fw.batch()

    def start(seed):
        return fw.face.wrap(fw.net(seed=seed), layers=[f"layer{seed}"], seed=seed)

    first, second = start(1), start(2)
    both = fw.face.cross_entropy(*first(x, target=y)) + fw.face.cross_entropy(*second(x, target=y))
    both.backward()
    for seed, model in ((1, first), (2, second)):
        alone = start(seed)
        fw.face.cross_entropy(*alone(x, target=y)).backward()
        fw.same_gradients(model, alone)


def test_validation_inside_training_is_clean(fw):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, layers=["layer1"])
    criterion = mixer.loss(fw.criterion())
    criterion(model(x), y).backward()
    plain = fw.face.unwrap(copy.deepcopy(model))
    with fw.evaluating(model, plain), fw.no_grad():
        assert fw.equal(criterion(model(x), y), fw.cross_entropy(plain(x), y))
    assert mixer.step == 1 and mixer.last is None
    criterion(model(x), y).backward()
    assert mixer.step == 2 and fw.numpy(fw.face.accuracy(model(x), y)) >= 0.0


def test_a_criterion_may_be_used_for_several_outputs_of_one_forward(fw):
    model, (x, y) = fw.net(), fw.batch()
    criterion = fw.face.Mixer(model, layers=["layer1"]).loss(fw.criterion())
    output = model(x)
    (criterion(output, y) + 0.4 * criterion(output * 2, y)).backward()
    assert fw.gradients(model)


def test_a_criterion_module_is_of_its_own_type_and_travels(fw):
    for plain in fw.criteria():
        mixer = fw.face.Mixer(fw.net(), layers=["layer1"])
        criterion = mixer.loss(plain)
        assert isinstance(criterion, type(plain)) and vars(criterion).items() >= vars(plain).items()
        for twin in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
            assert isinstance(twin, type(plain)) and twin.mixer.step == mixer.step
        assert not list(criterion.children()) and callable(criterion)


def test_a_criterions_parameters_are_shared(fw):
    (plain, scale), model, (x, y) = fw.scaled_criterion(), fw.net(), fw.batch()
    criterion = fw.face.Mixer(model, layers=["layer1"]).loss(plain)
    assert [p is scale for p in fw.parameters(criterion)] == [True]
    criterion(model(x), y).backward()
    assert scale.grad is not None


def test_small_networks_learn_with_mixing(fw):
    points = np.random.default_rng(0).standard_normal((256, 2), dtype=np.float32)
    labels = fw.tensor((points[:, 0] * points[:, 1] > 0).astype(int))
    points = fw.tensor(points)
    fw.seed(0)
    model = fw.face.wrap(fw.mlp(2, 64, 64, 2), ManifoldMixup(alpha=0.5))
    learn = fw.learner(model, 0.01, adam=True)
    for _ in range(150):
        learn(fw.face.cross_entropy(*model(points, target=labels)))
    with fw.evaluating(model):
        assert fw.numpy(fw.face.accuracy(model(points), labels)) > 0.9
