"""The three ways to mix, and that the model stays the user's own."""

import copy
import inspect
import io
import pickle
import random
import subprocess
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle_networks import Net, batch, close, equal, net, untouched

from mixlayers import CutMix, ManifoldMixup, MixedTarget, Mixup, OneOf, PatchUp, Scheduled
from mixlayers import _reference as reference
from mixlayers.paddle import Mixer, accuracy, cross_entropy, get_mixer, unwrap, wrap
from mixlayers.presets import PRESETS

LAYERS = ["layer1", "layer2"]


def by_hand(model, x, plan):
    """The model's output with its planned layer mixed by a plain hook."""

    def mix(layer, args, output):
        mask = plan.blend(tuple(output.shape)).mask
        mask = paddle.to_tensor(np.broadcast_to(True if mask is None else mask, output.shape))
        partner = paddle.gather(output, paddle.to_tensor(plan.perm))
        return paddle.where(mask, plan.lam * output + (1 - plan.lam) * partner, output)

    handle = dict(model.named_sublayers())[plan.place].register_forward_post_hook(mix)
    output = model(x)
    handle.remove()
    return output


@pytest.mark.parametrize(
    "method", [ManifoldMixup(), PatchUp("hard", block_size=3), PatchUp("soft")], ids=repr
)
def test_the_explicit_step_equals_mixing_by_hand(method):
    plain, model, (x, y) = net(), wrap(net(), method, LAYERS), batch()
    places = set()
    for _ in range(6):
        output, target = model(x, target=y)
        cross_entropy(output, target).backward()
        plan = get_mixer(model).last
        places.add(plan.place)
        expected = by_hand(plain, x, plan)
        close(output, expected)
        soft = reference.soft_target(y.numpy(), plan.perm, plan.blend((6, 6, 8, 8)).s, 4)
        soft = paddle.to_tensor(soft.astype("float32"))
        F.cross_entropy(expected, soft, soft_label=True).backward()
    assert places == set(LAYERS)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        close(ours, theirs, message=name)  # Paddle's running statistics are among them
        if not ours.stop_gradient:
            close(ours.grad, theirs.grad, rtol=1e-4, message=name)


@pytest.mark.parametrize("label_shape", [(-1,), (-1, 1)])
def test_the_three_ways_are_one(label_shape):
    x, y = batch()
    y = y.reshape(label_shape)
    losses = []
    for way in ("target", "scope", "loss"):
        model = net()
        mixer = Mixer(model, PatchUp("soft"), ["input", *LAYERS], seed=3)
        if way == "target":
            loss = cross_entropy(*model(x, target=y))
        elif way == "scope":
            with mixer(y) as target:
                output = model(x)
            loss = target.blend(lambda label, output=output: F.cross_entropy(output, label))
        else:
            loss = mixer.loss(nn.CrossEntropyLoss())(model(x), y)
        loss.backward()
        losses.append((loss.item(), model.stem.weight.grad))
    for loss, gradient in losses[1:]:
        assert loss == pytest.approx(losses[0][0], rel=1e-6)
        close(gradient, losses[0][1])


def test_nothing_is_mixed_unless_asked():
    plain, model, (x, y) = net(), wrap(net(), layers=LAYERS), batch()
    assert equal(model(x), plain(x))
    with paddle.no_grad():
        output, target = model(x, target=y)
    assert equal(output, plain(x))
    assert (target.s, target.layer, target.mixed, target.y is y) == (0.0, None, False, True)
    plain.eval(), model.eval()
    with get_mixer(model)(y) as target:
        output = model(x)
    assert equal(output, plain(x)) and target.blend(lambda label: label is y)
    criterion = get_mixer(model).loss(nn.CrossEntropyLoss())
    assert equal(criterion(model(x), y), F.cross_entropy(plain(x), y))
    assert get_mixer(model).step == 0


def test_the_model_stays_what_it_was():
    model, x = net(), batch()[0]
    keys, names, signature = list(model.state_dict()), set(vars(model)), inspect.signature(model.forward)
    sublayers = [name for name, _ in model.named_sublayers()]
    model.eval()
    before = model(x)
    model.train()
    assert wrap(model, example=x) is model and type(model) is Net
    cross_entropy(*model(x, target=batch()[1])).backward()
    assert list(model.state_dict()) == keys and set(vars(model)) == names
    assert inspect.signature(model.forward) == signature
    assert [name for name, _ in model.named_sublayers()] == sublayers
    fresh = net(seed=5)
    file = io.BytesIO()
    paddle.save(model.state_dict(), file)
    file.seek(0)
    assert fresh.set_state_dict(paddle.load(file)) == ([], [])
    unwrap(model)
    assert untouched(model)
    for layer in model.sublayers(
        include_self=True
    ):  # nor any of the flags that Paddle keeps beside its hooks
        assert not any(value for name, value in vars(layer).items() if "forward_p" in name)
    model.eval(), fresh.eval()
    assert equal(model(x), fresh(x)) and not equal(model(x), before)
    with pytest.raises(ValueError, match="not wrapped"):
        unwrap(model)


def test_auto_chooses_at_the_first_batch_or_from_an_example():
    x, y = batch()
    early, late = wrap(net(), example=x), wrap(net())
    assert get_mixer(early).places == ("input", "layer1", "layer2") and get_mixer(late).places is None
    late(x, target=y)
    assert get_mixer(late).places == ("input", "layer1", "layer2")
    every = wrap(net(), layers="stages", example=(x,))
    assert get_mixer(every).places == ("input", "layer1", "layer2", "layer3")


@pytest.mark.parametrize(
    "method", [Mixup(), CutMix(), OneOf({Mixup(): 1.0, CutMix(): 1.0}), Scheduled(Mixup())]
)
def test_input_methods_need_no_layers(method):
    model, (x, y) = wrap(net(), method), batch()
    kept = x.clone()
    output, target = model(x, target=y)
    cross_entropy(output, target).backward()
    assert target.layer == "input" and equal(x, kept) and 0.0 <= accuracy(output, target) <= 1.0


def test_input_presets_attach_as_they_stand():
    for name in ("mixup-cifar", "cutmix-imagenet"):
        mixer = Mixer(net(), PRESETS[name].method, PRESETS[name].layers)
        assert mixer.places == ("input",)


def in_layers(name, layer):
    return name in LAYERS


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("when", ["before", "after a step"])
def test_a_copy_has_its_own_mixer_and_weights(copied, when):
    model, (x, y) = wrap(net(), layers=in_layers), batch()
    mixer = get_mixer(model)
    if when != "before":
        model(x, target=y)[1].blend(lambda label: label)
    twin = copied(model)
    assert get_mixer(twin) is not mixer and get_mixer(twin).step == mixer.step
    step = mixer.step
    twin.layer1.conv.weight.set_value(paddle.zeros_like(twin.layer1.conv.weight))
    ours, theirs = model(x, target=y)[0], twin(x, target=y)[0]
    assert not equal(ours, theirs) and mixer.last.to_dict() == get_mixer(twin).last.to_dict()
    assert (mixer.step, get_mixer(twin).step) == (step + 1, step + 1)
    unwrap(twin)
    assert untouched(twin)
    assert get_mixer(model) is mixer and len(model.layer1._forward_post_hooks) == 1


LOADS = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
import paddle
from mixlayers.paddle import audit, cross_entropy, get_mixer
model = pickle.load(sys.stdin.buffer)
x, y = paddle.randn([6, 3, 8, 8]), paddle.arange(6) % 4
audit(model, x)  # it registers hooks of its own, and takes them off
for _ in range(3):
    output, target = model(x, target=y)
    cross_entropy(output, target).backward()
    print(target.layer)
"""


def test_a_pickled_models_hooks_survive_those_of_another_process(tmp_path):
    """Paddle numbers hooks from 0 in each process: the numbers of loaded ones must not be given out again."""
    model = wrap(net(), layers=["layer1"])
    path = ":".join([*sys.path, str(tmp_path)])
    told = subprocess.run(
        [sys.executable, "-c", LOADS], input=pickle.dumps(model), capture_output=True, check=False,
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.stdout.decode().split() == ["layer1"] * 3, told.stderr.decode()[-2000:]


def test_resume_equals_an_uninterrupted_run():
    x, y = batch()

    def steps(model, optimizer, count):
        for _ in range(count):
            cross_entropy(*model(x, target=y)).backward()
            optimizer.step()
            optimizer.clear_grad()

    def start():
        model = wrap(net(), layers=LAYERS, seed=11)
        return model, paddle.optimizer.Momentum(0.1, 0.9, parameters=model.parameters())

    whole, optimizer = start()
    steps(whole, optimizer, 7)
    first, optimizer = start()
    steps(first, optimizer, 4)
    file = io.BytesIO()
    names = {p.name: name for name, p in first.named_parameters()}
    momenta = {
        name: value.numpy()
        for name, value in optimizer.state_dict().items()
        if isinstance(value, paddle.Tensor)
    }
    paddle.save({"model": first.state_dict(), "mixer": get_mixer(first).state_dict()}, file)
    file.seek(0)
    saved = paddle.load(file)
    second, optimizer = start()
    second.set_state_dict(saved["model"])
    get_mixer(second).load_state_dict(saved["mixer"])
    own = {name: p.name for name, p in second.named_parameters()}
    renamed = {}
    for name, value in momenta.items():  # Paddle names parameters by a counter; another process starts at 0
        old = next(old for old in names if name.startswith(f"{old}_"))
        renamed[own[names[old]] + name.removeprefix(old)] = paddle.to_tensor(value)
    optimizer.set_state_dict(renamed)
    steps(second, optimizer, 3)
    assert saved["mixer"] == {"step": 4} and get_mixer(second).step == get_mixer(whole).step == 7
    for ours, theirs in zip(whole.parameters(), second.parameters(), strict=True):
        assert equal(ours, theirs)
    with pytest.raises(ValueError, match=r'\{"step": n\}'):
        get_mixer(second).load_state_dict({"epoch": 3})


def test_global_random_states_do_not_move():
    model, (x, y) = wrap(net(), PatchUp("soft")), batch()

    paddle.seed(1)
    drawn = paddle.randn([3])
    paddle.seed(1)
    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    cross_entropy(*model(x, target=y)).backward()  # the audit of the first batch included
    assert before == (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    assert equal(paddle.randn([3]), drawn)


def test_the_audit_does_not_move_the_global_random_state():
    class Draws(Net):
        def trunk(self, x):
            return super().trunk(x + paddle.randn([1]))

    model, (x, y) = wrap(net(Draws), layers=["layer1"]), batch()
    paddle.seed(3)
    model(x, target=y)  # audits its place
    audited = paddle.randn([1])
    paddle.seed(3)
    net(Draws)(x)
    assert equal(audited, paddle.randn([1]))


def test_labels_may_be_soft_or_several():
    model, (x, y) = wrap(net(), Mixup(lam_per="sample", pairs="different_class")), batch()
    for labels in (F.one_hot(y, 4), y.unsqueeze(-1)):
        _, target = model(x, target=labels)
        assert (y.numpy()[target.plan.perm] != y.numpy()).any()
        assert np.allclose(target.soft(4).sum(1).numpy(), 1.0) and target.soft(4).shape == [6, 4]
    model = wrap(net(), ManifoldMixup(), LAYERS)
    _, target = model(x, target={"shape": y, "colour": y.astype("float32")})
    loss = target.blend(lambda labels: labels["colour"].mean() + labels["shape"].astype("float32").mean())
    assert isinstance(target, MixedTarget) and loss > 0
