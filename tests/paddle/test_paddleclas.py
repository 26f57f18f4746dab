"""PaddleClas' batch operators, as its loader calls them; its loss of several parts."""

import inspect
import sys
from types import ModuleType

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers import CutMix, ManifoldMixup, Mixup, OneOf, Scheduled
from mixlayers.paddle import MixCollate, Mixer
from mixlayers.trainers.paddleclas import MixOperator, parse_method, register

RNG = np.random.default_rng(0)


def test_the_operator_mixes_as_the_collate_does():
    batch = [(RNG.normal(size=(3, 6, 6)).astype("float32"), i % 4, f"name {i}") for i in range(6)]
    operator = MixOperator(class_num=4, method="OneOf([Mixup(0.2), CutMix()])", seed=3, smoothing=0.1)
    mixed = operator(batch)
    collate = MixCollate(OneOf([Mixup(0.2), CutMix()]), 4, seed=3, smoothing=0.1)
    x, y = collate([(image, label) for image, label, _ in batch])
    slots = [np.stack([item[i] for item in mixed], axis=0) for i in range(3)]  # as mix_collate_fn does
    np.testing.assert_array_equal(slots[0], x)
    np.testing.assert_array_equal(slots[1], y)
    assert slots[1].shape == (6, 4) and slots[1].dtype == np.float32
    assert list(slots[2]) == [f"name {i}" for i in range(6)]


def test_paddleclas_gives_the_number_of_classes():
    """It looks for the name among the arguments, and for the operator in its own module."""
    assert "class_num" in inspect.getfullargspec(MixOperator).args
    with pytest.raises(ValueError, match=r"needs the number of classes, got class_num=None: set it"):
        MixOperator()


def test_register(monkeypatch):
    for name in ("ppcls", "ppcls.data", "ppcls.data.preprocess"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    register()
    assert sys.modules["ppcls.data.preprocess"].MixOperator is MixOperator
    for name in ("ppcls", "ppcls.data", "ppcls.data.preprocess"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ModuleNotFoundError, match="needs PaddleClas, which is not installed: pip install paddleclas"
    ):
        register()


@pytest.mark.parametrize(
    "method",
    [
        Mixup(0.2),
        CutMix(lam_per="sample"),
        OneOf({Mixup(): 1, CutMix(): 2}, prob=0.5),
        Scheduled(Mixup(), stop=9),
    ],
    ids=repr,
)
def test_methods_are_read_as_python_writes_them(method):
    assert parse_method(repr(method)) == method


@pytest.mark.parametrize(
    "text", ["Mix(0.2)", "Mixup(", "__import__('os')", "3", "Mixup(open('x'))", "Mixup", "(lambda: 1)()"]
)
def test_nothing_else_is_evaluated(text):
    with pytest.raises(ValueError, match=r"method must be one of mixlayers' as Python writes it, .* got"):
        parse_method(text)


class CombinedLoss(nn.Layer):
    """As PaddleClas has it: takes a dict or tensor, returns a dict of losses and their sum."""

    def __call__(self, output, label):
        logits = output["logits"] if isinstance(output, dict) else output
        losses = {"CELoss_0": nn.functional.cross_entropy(logits, label), "norm": (logits**2).mean()}
        losses["loss"] = losses["CELoss_0"] + losses["norm"]
        return losses


def test_its_combined_loss_is_blended_by_parts():
    class Net(nn.Layer):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Linear(5, 6), nn.Linear(6, 4)

        def forward(self, x):
            return {"logits": self.head(self.trunk(x).tanh())}

    net, labels = Net(), np.arange(6) % 4
    mixer = Mixer(net, ManifoldMixup(), layers=["trunk"])
    criterion = mixer.loss(lambda output, label: CombinedLoss()(output, label))
    output = net(paddle.to_tensor(RNG.normal(size=(6, 5)).astype("float32")))
    losses, plan = criterion(output, paddle.to_tensor(labels)), mixer.last
    one, other = (CombinedLoss()(output, paddle.to_tensor(y)) for y in (labels, labels[plan.perm]))
    for name in ("CELoss_0", "norm", "loss"):
        expected = plan.lam * float(one[name]) + (1 - plan.lam) * float(other[name])
        assert float(losses[name]) == pytest.approx(expected, rel=1e-5), name
    losses["loss"].backward()
