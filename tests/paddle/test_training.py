"""Steps as they really are: checkpointing, accumulation, two models, several forwards, validation."""

import copy
import pickle

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle.distributed.fleet.utils import recompute
from paddle_networks import Net, assert_same_gradients, batch, equal, net

from mixlayers import ManifoldMixup, MixingError, PatchUp
from mixlayers.paddle import Mixer, accuracy, cross_entropy, get_mixer, unwrap, wrap

METHODS = [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)]


class Recomputed(Net):
    """Recomputes its trunk in backward."""

    reentrant = False

    def trunk(self, x):
        x = self.stem(x)
        return recompute(lambda x: self.layer3(self.layer2(self.layer1(x))), x, use_reentrant=self.reentrant)


class Reentrant(Recomputed):
    """As `use_reentrant=True`, Paddle's default."""

    reentrant = True


class LayerByLayer(Recomputed):
    """A backward pass inside each of several: Paddle's own flag is lost after the first."""

    def trunk(self, x):
        x = self.stem(x)
        for layer in (self.layer1, self.layer2, self.layer3):
            x = recompute(layer, x, use_reentrant=True)
        return x


@pytest.mark.parametrize("kind", [Recomputed, Reentrant, LayerByLayer])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_recomputed_layers_are_mixed_alike_in_backward(kind, method):
    (x, y), models = batch(), []
    for network in (Net, kind):
        model = wrap(net(network), method, ["layer1", "layer2"], seed=2)
        for _ in range(4):
            cross_entropy(*model(x, target=y)).backward()
        models.append(model)
    assert_same_gradients(*models)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("kind", [Recomputed, Reentrant, LayerByLayer])
def test_two_forwards_before_one_backward_recompute_with_their_own_plans(kind, method):
    """Paddle's backward pass runs through the forwards side by side, not one after the other."""
    (x, y), models = batch(), []
    for network in (Net, kind):
        model = wrap(net(network), method, ["layer1", "layer2"])
        losses = [cross_entropy(*model(x * scale, target=y)) for scale in (1.0, 2.0, 3.0)]
        model.eval()
        model(x)
        model.train()
        sum(losses).backward()
        models.append(model)
    assert_same_gradients(*models)


@pytest.mark.parametrize("way", ["target", "scope", "loss"])
@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_whole_model_inside_recompute_replays_its_plan(way, place):
    (x, y), models = batch(), []
    for wrapped in (False, True):
        model = net()
        mixer = Mixer(model, PatchUp("soft"), [place])

        def run(*args, model=model, wrapped=wrapped, **kwargs):
            return (
                recompute(model, *args, use_reentrant=False, **kwargs) if wrapped else model(*args, **kwargs)
            )

        if way == "target":
            loss = cross_entropy(*run(x, target=y))
        elif way == "scope":
            with mixer(y) as target:
                output = run(x)
            loss = cross_entropy(output, target)
        else:
            loss = mixer.loss(F.cross_entropy)(run(x), y)
        loss.backward()
        assert mixer.step == 1
        models.append(model)
    assert_same_gradients(*models)


def test_gradient_accumulation_draws_a_plan_for_each_part():
    model, (x, y) = wrap(net(), layers=["layer1"]), batch()
    total, seen = net(), []
    for _ in range(3):
        (cross_entropy(*model(x, target=y)) / 3).backward()
        seen.append(get_mixer(model).last)
    assert len({plan.lam for plan in seen}) == 3 and [plan.step for plan in seen] == [0, 1, 2]
    for part in range(3):
        one = wrap(total if part == 0 else copy.deepcopy(net()), layers=["layer1"])
        get_mixer(one).load_state_dict({"step": part})
        (cross_entropy(*one(x, target=y)) / 3).backward()
        if part:
            for p, q in zip(total.parameters(), one.parameters(), strict=True):
                if not p.stop_gradient:
                    p.grad = p.grad + q.grad
    assert_same_gradients(model, total)


def test_two_wrapped_models_in_one_step_keep_apart():
    x, y = batch()
    first, second = wrap(net(seed=1), layers=["layer1"], seed=1), wrap(net(seed=2), layers=["layer2"], seed=2)
    (cross_entropy(*first(x, target=y)) + cross_entropy(*second(x, target=y))).backward()
    for model, seed in ((first, 1), (second, 2)):
        alone = wrap(net(seed=seed), layers=[f"layer{seed}"], seed=seed)
        cross_entropy(*alone(x, target=y)).backward()
        assert_same_gradients(model, alone)


def test_validation_inside_training_is_clean():
    model, (x, y) = net(), batch()
    mixer = Mixer(model, layers=["layer1"])
    criterion = mixer.loss(nn.CrossEntropyLoss())
    criterion(model(x), y).backward()
    plain = unwrap(copy.deepcopy(model))
    plain.eval(), model.eval()
    with paddle.no_grad():
        assert equal(criterion(model(x), y), F.cross_entropy(plain(x), y))
    assert mixer.step == 1 and mixer.last is None
    model.train()
    criterion(model(x), y).backward()
    assert mixer.step == 2 and accuracy(model(x), y) >= 0.0


def test_a_criterion_may_be_used_for_several_outputs_of_one_forward():
    model, (x, y) = net(), batch()
    criterion = Mixer(model, layers=["layer1"]).loss(nn.CrossEntropyLoss())
    output = model(x)
    (criterion(output, y) + 0.4 * criterion(output * 2, y)).backward()


@pytest.mark.parametrize(
    "plain", [nn.CrossEntropyLoss(label_smoothing=0.1), nn.NLLLoss(), nn.BCEWithLogitsLoss()]
)
def test_the_criterion_is_of_its_own_type_and_travels(plain):
    mixer = Mixer(net(), layers=["layer1"])
    criterion = mixer.loss(plain)
    assert isinstance(criterion, type(plain)) and vars(criterion).items() >= vars(plain).items()
    for twin in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert isinstance(twin, type(plain)) and twin.mixer.step == mixer.step
    assert not list(criterion.children()) and callable(criterion)


def test_a_criterions_parameters_are_shared():
    class Scaled(nn.CrossEntropyLoss):
        def __init__(self):
            super().__init__()
            self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

        def forward(self, output, target):
            return super().forward(output * self.scale, target)

    plain, (model, (x, y)) = Scaled(), (net(), batch())
    criterion = Mixer(model, layers=["layer1"]).loss(plain)
    assert [p is plain.scale for p in criterion.parameters()] == [True]
    criterion(model(x), y).backward()
    assert plain.scale.grad is not None


@pytest.mark.filterwarnings("ignore:amp_guard can only be enabled on CUDAPlace")
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_autocast_features_are_mixed_in_their_own_dtype(method):
    model, (x, y), seen = wrap(net(), method, ["layer1", "layer2"]), batch(), []
    model.layer2.register_forward_pre_hook(lambda layer, args: seen.append(args[0].dtype))
    with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        loss = cross_entropy(*model(x, target=y))
    loss.backward()
    assert set(seen) <= {paddle.bfloat16, paddle.float32} and bool(paddle.isfinite(loss))


def test_small_networks_learn_with_mixing():
    points = np.random.default_rng(0).standard_normal((256, 2), dtype=np.float32)
    labels = paddle.to_tensor((points[:, 0] * points[:, 1] > 0).astype("int64"))
    points = paddle.to_tensor(points)
    paddle.seed(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    wrap(model, ManifoldMixup(alpha=0.5))
    optimizer = paddle.optimizer.Adam(0.01, parameters=model.parameters())
    for _ in range(150):
        cross_entropy(*model(points, target=labels)).backward()
        optimizer.step()
        optimizer.clear_grad()
    model.eval()
    assert accuracy(model(points), labels) > 0.9


def test_two_forwards_in_one_recomputed_segment_are_refused():
    model, (x, y) = net(), batch()
    mixer = Mixer(model, layers=["layer1"])
    criterion = mixer.loss(nn.CrossEntropyLoss())
    criterion(model(x), y).backward()
    with pytest.raises(MixingError, match="runs the model in two forwards"):
        recompute(lambda x: model(x) + model(x * 2), x, use_reentrant=False)


def test_a_clean_forward_is_recomputed_clean():
    """The last mixed forward's plan must not leak into the recomputation of a clean one."""
    models, (x, y) = [], batch()
    for network in (Net, Reentrant, Recomputed):
        model = wrap(net(network), layers=["layer1"])
        mixed = cross_entropy(*model(x, target=y))
        clean = F.cross_entropy(model(x), y)
        (mixed + clean).backward()
        models.append(model)
    assert_same_gradients(models[0], models[1])
    assert_same_gradients(models[0], models[2])
