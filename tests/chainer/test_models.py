"""Audits of real models: the swap test is their oracle, and the same architecture in PyTorch their twin."""

import chainer
import numpy as np
import pytest
import torch
from chainer.links import GoogLeNet, ResNet50Layers
from chainercv2.model_provider import get_model
from pytorchcv.model_provider import get_model as get_torch_model

from mixlayers import chainer as ours
from mixlayers import torch as theirs
from mixlayers_chainer._hooks import Hook, hook, unhook

PARTNERS = np.array([1, 0])


class Swap(Hook):
    """Gives every sample its partner's feature."""

    def after(self, link, output):
        return output[PARTNERS]


def features(size, batch=2, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), dtype=np.float32)


def passes_swap_test(model, x, place):
    """Whether swapping partners there swaps the whole output, exactly: nothing of a sample goes round."""
    (link,) = (link for name, link in model.namedlinks() if name == "/" + place.replace(".", "/"))
    swap = Swap()
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        plain = scores(model(x))
        hook(link, swap)
        try:
            swapped = scores(model(x))
        finally:
            unhook(link, swap)
    apart = np.abs(plain[PARTNERS] - plain).max()
    # So the limit is 50 times float32's epsilon of the outputs, above the rounding of another batch order
    assert apart > 2e-2 * np.abs(plain).max(), "the samples are too alike for the test to mean anything"
    return np.abs(swapped - plain[PARTNERS]).max() <= 3e-4 * apart


def scores(output):
    return (output["prob"] if isinstance(output, dict) else output).array


def lively(model):
    """Weights that let every branch be seen in the output."""
    rng = np.random.default_rng(0)
    for p in model.params():
        if p.is_initialized and p.ndim > 1:
            fan_in = np.prod(p.shape[1:])
            p.array[...] = rng.standard_normal(p.shape, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
    return model


class Last(chainer.Chain):
    """ResNet50Layers with the network's last layer as output, in a Chain as its users put it."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.base = ResNet50Layers(None)

    def forward(self, x):
        return self.base(x, layers=["fc6"])["fc6"]


CIFAR = ["resnet20_cifar10", "densenet40_k12_cifar10", "preresnet20_cifar10"]


@pytest.mark.parametrize("name", CIFAR)
def test_verdicts_are_those_of_the_same_architecture_in_pytorch(name):
    """chainercv2's links define __call__, and are called as pytorchcv's modules are."""
    x = features(32)
    report = ours.audit(lively(get_model(name)), x)
    twin = theirs.audit(get_torch_model(name), torch.tensor(x))
    verdicts, expected = ({p.name: (p.shape, p.reason) for p in audit} for audit in (report, twin))
    common = verdicts.keys() & expected.keys()
    assert len(common) > 40
    for place in common:
        assert verdicts[place] == expected[place], place
    assert report.chosen == twin.chosen and len(report.chosen) == 3


def test_a_mixed_step_of_a_network_whose_links_define_call():
    model, x, y = get_model("resnet20_cifar10"), features(32), np.arange(2)
    model.cleargrads()
    ours.wrap(model)
    for _ in range(4):
        output, target = model(x, target=y)
        ours.cross_entropy(output, target).backward()
    assert ours.get_mixer(model).places == ("input", "features.stage1", "features.stage2")
    assert all(np.isfinite(p.grad).all() for p in model.params())


def test_resnet50_is_true_at_its_stages():
    model, x = lively(Last()), features(64)
    report = ours.audit(model, x)
    assert report.chosen == ("input", "base.res2", "base.res3")
    assert {"base.conv1", "base.bn1", "base.res4", "base.res5", "base.fc6"} <= set(report.true)
    for place in ("base.res2", "base.res3.b1", "base.res3.b1.conv2", "base.res4.a.conv4", "base.bn1"):
        assert passes_swap_test(model, x, place) == report[place].true, place


def test_googlenet_is_true_after_its_inceptions_and_not_inside():
    model, x = lively(GoogLeNet(None)), features(224)
    report = ours.audit(model, x)
    inceptions = [name for name, link in model.namedlinks() if type(link).__name__ == "Inception"]
    expected = ["conv1", "conv2_reduce", "conv2", *(name[1:] for name in inceptions), "loss3_fc"]
    assert list(report.true) == expected and len(inceptions) == 9
    assert report["loss1_conv"].reason == "never called"
    for place in ("inc3a", "inc4b.conv3"):
        assert passes_swap_test(model, x, place) == report[place].true, place
