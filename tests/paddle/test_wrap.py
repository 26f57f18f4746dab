"""What wrapping must mind of PaddlePaddle's own; the rest is in tests/shared/test_wrap.py."""

import io
import pickle
import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn.layer.layers import HookRemoveHelper

from mixlayers import Mixup, PatchUp
from mixlayers.paddle import Mixer, cross_entropy, get_mixer, unwrap, wrap
from tests.paddle.paddle_networks import batch, equal, net

LAYERS = ["layer1", "layer2"]


@pytest.mark.parametrize("way", ["target", "scope", "loss"])
def test_labels_may_be_a_column(way):
    """As Paddle's data sets and losses have them."""
    x, y = batch()
    losses, gradients = [], []
    for labels in (y, y.unsqueeze(-1)):
        model = net()
        mixer = Mixer(model, PatchUp("soft"), LAYERS, seed=3)
        if way == "target":
            loss = cross_entropy(*model(x, target=labels))
        elif way == "scope":
            with mixer(labels) as target:
                output = model(x)
            loss = target.blend(
                lambda label, output=output: paddle.nn.functional.cross_entropy(output, label)
            )
        else:
            loss = mixer.loss(nn.CrossEntropyLoss())(model(x), labels)
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.stem.weight.grad)
    assert losses[0] == losses[1] and equal(*gradients)


def test_columns_of_labels_pair_by_class():
    model, (x, y) = wrap(net(), Mixup(lam_per="sample", pairs="different_class")), batch()
    _, target = model(x, target=y.unsqueeze(-1))
    assert (y.numpy()[target.plan.perm] != y.numpy()).any()
    assert np.allclose(target.soft(4).sum(1).numpy(), 1.0) and target.soft(4).shape == [6, 4]


def test_no_flag_that_paddle_keeps_beside_its_hooks_stays():
    model = wrap(net(), layers=LAYERS)
    unwrap(model)
    for layer in model.sublayers(include_self=True):
        assert not any(value for name, value in vars(layer).items() if "forward_p" in name)


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


def test_a_loaded_models_hooks_have_numbers_that_are_not_given_out_again(monkeypatch):
    """Where they would meet, in the same layer, is chance."""
    data = pickle.dumps(wrap(net(), layers=["layer1"]))
    monkeypatch.setattr(HookRemoveHelper, "next_hook_id", 0)  # as in another process
    layers = pickle.loads(data).sublayers(include_self=True)
    numbers = {number for each in layers for number in (*each._forward_pre_hooks, *each._forward_post_hooks)}
    new = layers[0].register_forward_pre_hook(lambda *_: None)
    assert len(numbers) > 3 and new._hook_id > max(numbers)


def test_resume_with_an_optimizers_state_equals_an_uninterrupted_run():
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
