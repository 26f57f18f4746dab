"""fastai's Learner, with the callback."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import SchedCos  # noqa: F401  # gives the Learner lr_find and fit_one_cycle
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from torch.utils.data import TensorDataset

from mixlayers import ManifoldMixup, MixingError, Mixup
from mixlayers.trainers.fastai import Mixing
from tests.trainers.digits_scene import Net, Swap, check_swapped, digits, hooks

X, Y, TEST_X, TEST_Y = digits()


class Watch(Callback):
    """Keeps what a step computed."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, ...]] = []
        self.valid: list[torch.Tensor] = []

    def after_loss(self) -> None:
        if self.training:
            self.steps.append((*self.xb, *self.yb, self.pred.detach(), self.loss.detach()))
        else:
            self.valid.append(self.loss)


def learner(*callbacks: Any) -> Any:
    random.seed(0)  # fastai shuffles by it
    torch.manual_seed(0)
    loaders = DataLoaders(
        DataLoader(TensorDataset(X, Y), bs=50, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(TEST_X, TEST_Y), bs=len(TEST_Y)),
        device="cpu",
    )
    learn = Learner(loaders, Net(), loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=list(callbacks))
    learn.remove_cbs([callback for callback in learn.cbs if isinstance(callback, ProgressCallback)])
    return learn


def test_digits_to_the_accuracy_of_a_plain_run() -> None:
    learn = learner(Mixing(ManifoldMixup(alpha=0.5), layers=["input", "one", "two"]))
    model, loss = learn.model, learn.loss_func
    with learn.no_logging():
        learn.fit_one_cycle(20, 5e-3)
    assert learn.final_record[-1] > 0.95, "plain: .961 to .963, mixed: .963 to .967, over 3 seeds"
    history = learn.mixing.mixer.history
    assert history.mixed == 20 * 8 and set(history.counts) == {"input", "one", "two"}
    assert learn.loss_func is loss and learn.model is model and hooks(model) == 0


def test_features_and_labels_are_swapped_alike() -> None:
    watch = Watch()
    learn = learner(Mixing(Swap(), layers=["one", "two"]), watch)
    with learn.no_logging():
        learn.fit(1, 0.0)
    learn.model.eval()
    plain = torch.nn.functional.cross_entropy(learn.model(TEST_X), TEST_Y)
    torch.testing.assert_close(watch.valid[0], plain, rtol=1e-4, atol=1e-5)
    learn.model.train()
    for step, (x, y, output, loss) in enumerate(watch.steps):
        plan = Swap().plan(step=step, batch_size=50, places=("one", "two"))
        check_swapped(learn.model, x, y, output, loss, plan.perm)


class Cancel(Callback):
    def after_batch(self) -> None:
        if self.iter == 2:
            raise CancelFitException


class Fail(Callback):
    def after_batch(self) -> None:
        raise RuntimeError("the disk is full")


def test_cancelled_and_failed_fits_leave_the_learner_usable() -> None:
    learn = learner(Mixing(ManifoldMixup(alpha=0.5)))
    loss = learn.loss_func
    with learn.no_logging():
        learn.fit(1, 1e-3, cbs=Cancel())
        assert learn.loss_func is loss and hooks(learn.model) == 0
        assert learn.mixing.state_dict() == {"step": 3}
        with pytest.raises(RuntimeError, match="disk"):
            learn.fit(1, 1e-3, cbs=Fail())
        learn.fit(1, 1e-3)
    assert learn.loss_func is loss and hooks(learn.model) == 0
    assert [record.step for record in learn.mixing.mixer.history] == list(range(4, 12))


class Interrupt(Callback):
    def after_batch(self) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("given", ["to the Learner", "to fit"])
@pytest.mark.parametrize("breaks", [Interrupt, Fail])
def test_what_breaks_off_leaves_the_learner_plain(breaks: Any, given: str) -> None:
    mixing = Mixing(ManifoldMixup(alpha=0.5))
    learn = learner(*([mixing] if given == "to the Learner" else []))
    loss, fit = learn.loss_func, type(learn).fit
    with learn.no_logging():
        with pytest.raises(KeyboardInterrupt if breaks is Interrupt else RuntimeError):
            learn.fit(1, 1e-3, cbs=[breaks(), *([mixing] if given == "to fit" else [])])
        assert learn.loss_func is loss and hooks(learn.model) == 0
        learn.remove_cb(mixing)
        assert "fit" not in vars(learn) and learn.fit.__func__ is fit and mixing.learn is None
        learn.fit(1, 1e-3)  # a plain one
        assert mixing.state_dict() == {"step": 1}
        learn.add_cb(mixing)
        learn.fit(1, 1e-3)
    assert mixing.state_dict() == {"step": 9} and hooks(learn.model) == 0


def test_a_learner_is_exported_with_it() -> None:
    learn = learner(Mixing(ManifoldMixup(alpha=0.5)))
    with learn.no_logging():
        learn.fit(1, 1e-3)
        again = pickle.loads(pickle.dumps(learn))
        again.fit(1, 1e-3)
    assert again.mixing.state_dict() == {"step": 16} and learn.mixing.state_dict() == {"step": 8}


def test_resumed_by_its_state() -> None:
    ends = []
    for replaced in (False, True):
        mixing = Mixing(ManifoldMixup(alpha=0.5))
        learn = learner(mixing)
        with learn.no_logging():
            learn.fit(1, 1e-3)
            if replaced:
                other = Mixing(ManifoldMixup(alpha=0.5))
                other.load_state_dict(mixing.state_dict())
                learn.remove_cb(mixing)
                learn.add_cb(other)
            learn.fit(1, 1e-3)
        ends.append(learn.model.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_several_targets_are_refused() -> None:
    learn = learner(Mixing(Mixup()))
    learn.dls = DataLoaders(
        DataLoader(TensorDataset(X, Y, Y), bs=50), DataLoader(TensorDataset(X, Y, Y), bs=50)
    )
    learn.dls.n_inp = 1
    with learn.no_logging(), pytest.raises(MixingError, match="2 targets"):
        learn.fit(1, 1e-3)
