"""skorch: fits that break off, closures, sample weights, and compiled parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from mixlayers import ManifoldMixup, MixingError
from mixlayers.trainers.skorch import Mixing
from tests.trainers.digits_scene import BATCH, METHOD, Net, Swap, hooks
from tests.trainers.test_skorch import TEST_X, Probabilities, X, Y, classifier, mixing, same


@pytest.fixture
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Fails(Callback):
    """Breaks off the second batch, once."""

    def __init__(self, error: Any) -> None:
        self.error = error
        self.left = 2

    def on_batch_begin(self, net: Any, **step: Any) -> None:
        self.left -= 1
        if not self.left:
            raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_breaks_off_leaves_the_net_plain_and_usable(error: Any) -> None:
    fails = Fails(error)
    net = classifier(mixing(), ("fails", fails))
    if error is KeyboardInterrupt:  # skorch's own way to stop
        net.fit(X, Y)
    else:
        with pytest.raises(error):
            net.fit(X, Y)
    assert (
        hooks(net.module_) == 0 and type(net.criterion_) is nn.NLLLoss and not net.criterion_._forward_hooks
    )
    assert "fit_loop" not in net.get_params()
    assert not [name for name in vars(dict(net.callbacks_)["mixing"]) if name.endswith("_")]
    net.module_.train()
    for _ in range(2):  # by hand, unmixed
        F.nll_loss(net.module_(torch.tensor(X[:50])).log(), torch.tensor(Y[:50])).backward()
    assert net.partial_fit(X, Y).history[-1, "mixing_batch_count"] == TRAINED + 1
    assert hooks(net.module_) == 0 and np.array_equal(net.predict_proba(TEST_X), net.predict_proba(TEST_X))


TRAINED = 8


class Recorded(Callback):
    """The plan after each run of a closure, by batch."""

    def __init__(self, mixing: Mixing) -> None:
        self.mixing, self.batches = mixing, []

    def on_batch_begin(self, net: Any, **step: Any) -> None:
        self.batches.append([])

    def on_grad_computed(self, net: Any, **step: Any) -> None:
        self.batches[-1].append(self.mixing.mixer_.last)


def test_the_closures_of_one_batch_share_their_plan() -> None:
    name, callback = mixing()
    recorded = Recorded(callback)
    net = classifier((name, callback), recorded, optimizer=torch.optim.LBFGS, lr=0.01, optimizer__max_iter=3)
    net.fit(X, Y)
    assert [{plan.step for plan in plans} for plans in recorded.batches] == [{step} for step in range(8)]
    assert max(map(len, recorded.batches)) > 1, "the closure ran once a batch"
    assert net.history[-1, "mixing_batch_count"] == 8


class Weighted(NeuralNet):
    """As skorch's own page applies sample weights."""

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        each = super().get_loss(y_pred, y_true, X, *args, **kwargs)
        return (torch.as_tensor(X["weight"]) * each).mean()


class Takes(Net):
    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return super().forward(x)


class WeightedCrossEntropy(nn.Module):
    """As our page does: y is the label beside its weight."""

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        label, weight = y[:, 0].long(), y[:, 1]
        return (weight * F.cross_entropy(output, label, reduction="none")).mean()


def weights() -> Any:
    return np.random.default_rng(0).uniform(0.1, 2.0, len(Y)).astype(np.float32)


def test_a_weight_would_count_for_another_samples_label() -> None:
    common = {"batch_size": BATCH, "train_split": None, "verbose": 0, "max_epochs": 1}
    data = {"x": X, "weight": weights()}
    for optional in ({}, {"callbacks": [mixing()]}):
        net = Weighted(Takes, nn.CrossEntropyLoss, criterion__reduction="none", **common, **optional)
        if not optional:
            net.fit(data, Y)
        else:
            with pytest.raises(MixingError, match=r"a loss for each sample .* sample weights belong there"):
                net.fit(data, Y)
            assert hooks(net.module_) == 0 and type(net.criterion_) is nn.CrossEntropyLoss


def test_weights_beside_the_labels_are_each_labels_own() -> None:
    class Compare(Callback):
        steps = 0

        def on_batch_end(self, net: Any, batch: Any, training: bool, loss: Tensor, y_pred: Tensor) -> None:
            plan, (_, y) = callback.mixer_.last, batch
            label, weight, perm = y[:, 0].long(), y[:, 1], torch.as_tensor(plan.perm)
            logs = y_pred.log_softmax(1)
            own, partner = -logs.gather(1, label[:, None])[:, 0], -logs.gather(1, label[perm][:, None])[:, 0]
            expected = (plan.lam * weight * own + (1 - plan.lam) * weight[perm] * partner).mean()
            torch.testing.assert_close(loss, expected)
            self.steps += 1

    name, callback = mixing()
    compare = Compare()
    both = np.stack((Y.astype(np.float32), weights()), 1)
    NeuralNet(
        Net, WeightedCrossEntropy, batch_size=BATCH, train_split=None, verbose=0, max_epochs=1,
        callbacks=[(name, callback), compare],
    ).fit(X, both)  # fmt: skip
    assert compare.steps == 8


def test_lam_per_sample_still_needs_a_loss_per_sample() -> None:
    class Mean(NeuralNet):
        def get_loss(self, *args: Any, **kwargs: Any) -> Tensor:
            return super().get_loss(*args, **kwargs).mean()

    net = Mean(
        Net, nn.CrossEntropyLoss, criterion__reduction="none", batch_size=BATCH, train_split=None, verbose=0,
        max_epochs=1, callbacks=[mixing(ManifoldMixup(0.5, lam_per="sample"))],
    ).fit(X, Y)  # fmt: skip
    assert net.history[-1, "mixing_batch_count"] == 8


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("method", [METHOD, Swap()])
def test_compiled_modules_and_criteria(method: Any) -> None:
    nets = [
        classifier(mixing(method), compile=compiled, **settings).fit(X, Y)
        for compiled, settings in ((False, {}), (True, {"compile__backend": "aot_eager"}))
    ]
    torch.testing.assert_close(
        *(torch.tensor(net.history[0, "batches", :, "train_loss"]) for net in nets), rtol=1e-3, atol=1e-4
    )
    assert nets[1].history[-1, "mixing_batch_count"] == 8 and not same(nets[0].module_, Probabilities())
