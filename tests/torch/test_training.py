"""Steps as they really are: checkpointing, accumulation, two models, several forwards, validation."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from networks import Net, batch, net
from torch import nn
from torch.utils.checkpoint import checkpoint

from mixlayers import ManifoldMixup, PatchUp
from mixlayers.torch import Mixer, accuracy, cross_entropy, get_mixer, unwrap, wrap

METHODS = [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)]


class Checkpointed(Net):
    """Recomputes its trunk in backward."""

    reentrant = False

    def trunk(self, x):
        stem = self.stem(x)
        return checkpoint(
            lambda x: self.layer3(self.layer2(self.layer1(x))), stem, use_reentrant=self.reentrant
        )


class Reentrant(Checkpointed):
    reentrant = True


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same_gradients(first, second):
    for name, gradient in gradients(first).items():
        torch.testing.assert_close(gradient, gradients(second)[name], rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", [Checkpointed, Reentrant])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_checkpointed_layers_are_mixed_alike_in_backward(kind, method):
    (x, y), models = batch(), []
    for network in (Net, kind):
        model = wrap(net(network).train(), method, ["layer1", "layer2"], seed=2)
        for module in model.modules():  # recomputation would update the running statistics twice
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats, module.running_mean, module.running_var = False, None, None
        for _ in range(4):
            cross_entropy(*model(x, target=y)).backward()
        models.append(model)
    assert_same_gradients(*models)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_two_forwards_before_one_backward_recompute_with_their_own_plans(method):
    (x, y), models = batch(), []
    for network in (Net, Checkpointed):
        model = wrap(net(network).train(), method, ["layer1", "layer2"])
        losses = [cross_entropy(*model(x * scale, target=y)) for scale in (1.0, 2.0, 3.0)]
        model.eval()(x)
        model.train()
        sum(losses).backward()
        models.append(model)
    assert_same_gradients(*models)


@pytest.mark.parametrize("way", ["target", "scope", "loss"])
@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_whole_model_inside_a_checkpoint_replays_its_plan(way, place):
    (x, y), models = batch(), []
    for wrapped in (False, True):
        model = net().train()
        mixer = Mixer(model, PatchUp("soft"), [place])

        def run(*args, model=model, wrapped=wrapped, **kwargs):
            return (
                checkpoint(model, *args, use_reentrant=False, **kwargs) if wrapped else model(*args, **kwargs)
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
                p.grad += q.grad
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
    plain = unwrap(copy.deepcopy(model)).eval()
    with torch.no_grad():
        assert torch.equal(criterion(model.eval()(x), y), F.cross_entropy(plain(x), y))
    assert mixer.step == 1 and mixer.last is None
    criterion(model.train()(x), y).backward()
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
    assert isinstance(criterion, type(plain)) and criterion.reduction == "mean"
    for twin in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert isinstance(twin, type(plain)) and twin.mixer.step == mixer.step
    assert not list(criterion.children())


def test_a_criterions_parameters_are_shared():
    class Scaled(nn.CrossEntropyLoss):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output, target):
            return super().forward(output * self.scale, target)

    plain, (model, (x, y)) = Scaled(), (net(), batch())
    criterion = Mixer(model, layers=["layer1"]).loss(plain)
    assert [p is plain.scale for p in criterion.parameters()] == [True]
    criterion(model(x), y).backward()
    assert plain.scale.grad is not None


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_autocast_features_are_mixed_in_their_own_dtype(method):
    model, (x, y), seen = wrap(net(), method, ["layer1", "layer2"]), batch(), []
    model.layer2.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(*model(x, target=y))
    loss.backward()
    assert set(seen) <= {torch.bfloat16, torch.float32} and torch.isfinite(loss)


def test_small_networks_learn_with_mixing():
    torch.manual_seed(0)
    points = torch.randn(256, 2)
    labels = (points[:, 0] * points[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    wrap(model, ManifoldMixup(alpha=0.5))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(*model(points, target=labels)).backward()
        optimizer.step()
    assert accuracy(model.eval()(points), labels) > 0.9
