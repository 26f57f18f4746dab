"""skorch: training batches are mixed, features and labels alike; validation and predict never are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, LoadInitState, LRScheduler
from torch import Tensor, nn

from mixlayers import ManifoldMixup, MixingError, Mixup, OneOf
from mixlayers.torch import Mixer
from mixlayers.trainers.skorch import Mixing
from tests.trainers.digits_scene import (
    BATCH,
    EPOCHS,
    LR,
    METHOD,
    PLACES,
    STEPS,
    TRAIN,
    Net,
    Swap,
    check_swapped,
    digits,
    hooks,
)

X, Y, TEST_X, TEST_Y = (tensor.numpy() for tensor in digits())


class Probabilities(Net):
    """What skorch's default criterion, NLLLoss, is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


def classifier(*callbacks: Any, module: Any = Probabilities, **settings: Any) -> Any:
    plain = {
        "max_epochs": 1,
        "lr": LR,
        "optimizer": torch.optim.Adam,
        "batch_size": BATCH,
        "train_split": None,
        "verbose": 0,
    }
    torch.manual_seed(0)
    return NeuralNetClassifier(module, callbacks=list(callbacks), **{**plain, **settings})


def mixing(method: Any = METHOD, **settings: Any) -> Any:
    return "mixing", Mixing(method, **{"layers": PLACES, **settings})


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_trains_as_a_loop_by_hand_does() -> None:
    net = classifier(mixing(), max_epochs=2).fit(X, Y)
    torch.manual_seed(0)
    module = Probabilities()
    criterion = Mixer(module, METHOD, PLACES).loss(nn.NLLLoss())
    optimizer = torch.optim.Adam(module.parameters(), LR)
    losses = []
    for start in [*range(0, TRAIN, BATCH)] * 2:
        optimizer.zero_grad()
        logs = torch.log(module(torch.tensor(X[start : start + BATCH])) + torch.finfo(torch.float32).eps)
        loss = criterion(logs, torch.tensor(Y[start : start + BATCH]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert same(net.module_, module)
    assert [
        *net.history[0, "batches", :, "train_loss"],
        *net.history[1, "batches", :, "train_loss"],
    ] == losses


class Probe(Callback):
    """Compares each training batch with the module as it was before."""

    def __init__(self, mixing: Mixing) -> None:
        self.mixing, self.steps = mixing, 0

    def on_batch_begin(self, net: Any, **batch: Any) -> None:
        self.before_ = Net()
        self.before_.load_state_dict(net.module_.state_dict())

    def on_batch_end(self, net: Any, batch: Any, training: bool, loss: Tensor, y_pred: Tensor) -> None:
        if training:
            perm = self.mixing.mixer_.last.perm
            logits = self.before_(batch[0])
            shift = torch.logsumexp(logits, 1, keepdim=True)[torch.from_numpy(perm)]
            output = y_pred.detach().log() + shift
            check_swapped(self.before_, *batch, output, loss.detach(), perm)
            self.steps += 1


@pytest.mark.parametrize("place", PLACES)
def test_features_and_labels_are_both_swapped(place: str) -> None:
    name, callback = mixing(Swap(), layers=place)
    probe = Probe(callback)
    classifier((name, callback), probe).fit(X, Y)
    assert probe.steps == TRAIN // BATCH


def test_learns_digits() -> None:
    """Over seeds 0 to 5 a plain run reaches 0.963 +- 0.003 (mean, standard deviation), this one 0.968 +- 0.002."""
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR, step_every="batch", max_lr=LR, total_steps=STEPS
    )
    net = classifier(mixing(), ("schedule", schedule), max_epochs=EPOCHS, iterator_train__shuffle=True)
    net.fit(X, Y)
    assert net.score(TEST_X, TEST_Y) > 0.963 - 0.003
    assert net.history[-1, "mixing_batch_count"] == STEPS
    assert sum(sum(net.history[:, f"mixed_{place}"]) for place in PLACES) == STEPS


def test_validation_and_predict_are_not_mixed() -> None:
    class Outside(Callback):
        def on_train_end(self, net: Any, **data: Any) -> None:
            self.validated = net.history[-1, "valid_loss"]

    outside = Outside()
    net = classifier(mixing(), outside, train_split=lambda data, y: (data, data), batch_size=TRAIN).fit(X, Y)
    assert len(net.history[-1, "batches"]) == 2
    assert "mixing_lam" not in net.history[-1, "batches", -1]
    with torch.no_grad():
        expected = F.nll_loss(net.module_(torch.tensor(X)).log(), torch.tensor(Y))
    assert outside.validated == pytest.approx(expected.item(), rel=1e-5)
    assert np.array_equal(net.predict_proba(X), net.predict_proba(X))


def test_leaves_nothing_behind() -> None:
    class Begin(Callback):
        def on_train_begin(self, net: Any, **data: Any) -> None:
            self.criterion_ = net.criterion_

    begin = Begin()
    net = classifier(begin, mixing()).fit(X, Y)
    assert net.criterion_ is begin.criterion_ and type(net.criterion_) is nn.NLLLoss
    assert hooks(net.module_) == 0
    assert not [name for name in vars(dict(net.callbacks_)["mixing"]) if name.endswith("_")]
    assert hooks(clone(net).fit(X, Y).module_) == 0


def test_history_tells_lam_by_batch_and_layers_by_epoch() -> None:
    seen = []

    class Watch(Callback):
        def on_batch_end(self, net: Any, **step: Any) -> None:
            seen.append(callback.mixer_.history.last)

    name, callback = mixing(OneOf({METHOD: 1}, prob=0.5))
    net = classifier((name, callback), Watch(), max_epochs=3).fit(X, Y)
    lams = [lam for epoch in net.history[:, "batches", :, "mixing_lam"] for lam in epoch]
    assert lams == [1 - record.s for record in seen]
    for epoch in range(3):
        layers = [record.layer for record in seen[8 * epoch : 8 * epoch + 8]]
        told = [net.history[epoch, f"mixed_{place}"] for place in (*PLACES, "clean")]
        assert told == [layers.count(place) for place in (*PLACES, None)]


def test_grid_search_over_alpha_and_method() -> None:
    net = classifier(mixing(None, layers="auto"))
    grid = {"callbacks__mixing__alpha": [0.2, 2.0], "callbacks__mixing__method": [ManifoldMixup(), Mixup()]}
    search = GridSearchCV(net, grid, cv=2, scoring="accuracy", error_score="raise").fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == 4, "each of the four trained otherwise"
    again = clone(net).set_params(**search.best_params_)
    assert again.get_params()["callbacks__mixing__alpha"] == search.best_params_["callbacks__mixing__alpha"]


def test_alpha_replaces_the_methods_own() -> None:
    first = classifier(mixing(ManifoldMixup(0.3))).fit(X, Y)
    second = classifier(mixing(ManifoldMixup(2.0), alpha=0.3)).fit(X, Y)
    assert same(first.module_, second.module_)


@pytest.mark.parametrize("how", ["partial_fit", "warm_start", "pickle", "checkpoint"])
def test_goes_on_with_the_plans_of_an_uninterrupted_run(how: str, tmp_path: Path) -> None:
    whole = classifier(mixing(), max_epochs=4).fit(X, Y)
    if how == "checkpoint":
        saving = Checkpoint(dirname=str(tmp_path), monitor=None)
        classifier(saving, mixing(), max_epochs=2).fit(X, Y)
        net = classifier(mixing(), LoadInitState(saving), max_epochs=2).fit(X, Y)
    else:
        net = classifier(mixing(), max_epochs=2, warm_start=True).fit(X, Y)
        net = pickle.loads(pickle.dumps(net)) if how == "pickle" else net
        net = net.fit(X, Y) if how == "warm_start" else net.partial_fit(X, Y)
    assert net.history[:, "mixing_batch_count"] == [8, 16, 24, 32]
    assert same(net.module_, whole.module_)


def test_a_new_fit_begins_anew() -> None:
    net = classifier(mixing()).fit(X, Y)
    assert net.fit(X, Y).history[:, "mixing_batch_count"] == [8]


def test_refuses() -> None:
    class Past(NeuralNetClassifier):
        def infer(self, x: Any, **parameters: Any) -> Tensor:
            return self.module_.forward(x)

    class Own(NeuralNetClassifier):
        def get_loss(self, y_pred: Tensor, y_true: Tensor, *rest: Any, **named: Any) -> Tensor:
            return F.nll_loss(y_pred.log(), y_true)

    with pytest.raises(MixingError, match="the wrapped model has not run"):
        Past(Probabilities, callbacks=[mixing()], verbose=0).fit(X, Y)
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        Own(Probabilities, callbacks=[mixing()], verbose=0).fit(X, Y)
    with pytest.raises(ValueError, match=r"alpha=0.3 was given, but OneOf.* has none"):
        classifier(mixing(OneOf({METHOD: 1}), alpha=0.3)).fit(X, Y)
