"""What the audit's own forwards leave as it was, and what becomes of what the model raises in them; every framework."""

import random
import threading
import warnings

import numpy as np
import pytest

from mixlayers import ManifoldMixup, MixingError, Mixup
from tests.support.audited import PLACES, net
from tests.support.passing import by_hand


class Shared:
    """A list that no audit puts back."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return 1

    def pop(self):
        return self.values.pop() if self.values else True


class Counting:
    """Remembers what it has seen."""

    seen = 0

    def trunk(self, x):
        self.seen = self.seen + 1
        self.kept.append(x)
        return super().trunk(x)


class Picky:
    """From some time on it takes no four samples; `fine` says how many forwards of four still go well."""

    fine = None

    def trunk(self, x):
        if self.fine and len(x) == 4 and not self.fine.pop():
            raise RuntimeError("five at least")
        return super().trunk(x)


@pytest.mark.parametrize("fine", [[False], [False, True]], ids=["clean", "swapped"])
def test_what_is_raised_in_a_proof_again_is_told_and_ends_nothing(fw, fine):
    """By the audit's own forward of the samples as they are, or of swapped ones."""
    x, y = fw.batch(8)
    model = fw.face.wrap(net(fw, Picky), layers="layer1")
    assert model(x, target=y)[1].mixed
    model.fine = Shared([*fine])
    said = r"'layer1' could not be proved again in mixed forward 2\. mixlayers ran .* on 4 samples.*five at least"
    with pytest.warns(UserWarning, match=said):
        assert model(x, target=y)[1].mixed
    # a batch that cannot be run as it is ends the proofs, so that it is told once, not in mixed forward 4 again
    model.fine = Shared([False]) if len(fine) == 1 else None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be proved again")
        for _ in range(3):
            assert model(x, target=y)[1].mixed


class Bypassing:
    """Runs layer1 in evaluation alone."""

    def trunk(self, x):
        x = self.stem(x)
        return self.layer3(self.layer2(x if self.training else self.layer1(x)))


def test_a_model_in_eval_mode_is_judged_as_it_will_train(fw):
    model, (x, _) = net(fw, Bypassing), fw.batch()
    with fw.evaluating(model):
        report = fw.face.audit(model, x)
    assert report["layer2"].true and report["layer1"].reason == "never called"


def test_nothing_of_the_model_moves(fw):
    model, (x, _) = net(fw, Counting, kept=[]), fw.batch()
    kept, before = model.kept, fw.state(model)
    states = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    fw.seed(5)
    fw.face.audit(model, x)
    drawn = fw.random()
    assert model.seen == 0 and model.kept is kept and kept == []
    assert all(np.array_equal(value, before[name]) for name, value in fw.state(model).items())
    assert states[0] == random.getstate()
    fw.seed(5)
    assert np.array_equal(drawn, fw.random())


def test_nothing_moves_when_the_model_raises(fw):
    class Fails(Counting):
        def trunk(self, x):
            super().trunk(x)
            raise RuntimeError("in the middle")

    model, (x, _) = net(fw, Fails, kept=[]), fw.batch()
    before = fw.state(model)
    with pytest.raises(
        ValueError, match=r"mixlayers ran the model by itself.*4 samples.*\(4, 3, 8, 8\).*in the middle"
    ):
        fw.face.audit(model, x)
    assert model.seen == 0 and fw.hooks(model.layer1) == 0
    assert all(np.array_equal(value, before[name]) for name, value in fw.state(model).items())


def test_steps_are_equal_to_the_bit_without_the_audit(fw):
    """Four steps with named layers, audited and trusted."""
    states = []
    for trust in (False, True):
        dropout = 0.0 if fw.name == "chainer-device" else 0.5  # Chainer draws masks on the host there
        model, (x, y) = fw.net(dropout=dropout), fw.batch()
        fw.face.wrap(model, ManifoldMixup(), list(PLACES[:2]), trust=trust)
        learn = fw.learner(model, 0.1)
        fw.seed(7)
        for _ in range(4):
            learn(fw.face.cross_entropy(*model(x, target=y)))
        states.append({**fw.state(model), "drawn next": fw.random()})
    for name, value in states[0].items():
        assert np.array_equal(value, states[1][name]), name


class Renamed:
    """One of its layers may get another name."""

    middle = "layer2"

    def trunk(self, x):
        return self.layer3(getattr(self, self.middle)(self.layer1(self.stem(x))))


@pytest.mark.parametrize("audited", [False, True])
def test_a_layer_that_loses_its_name_is_told_and_no_swapping_hook_stays(fw, audited):
    """Batches are of four samples, which is what an audit's hooks swap."""
    model, plain, (x, y) = net(fw, Renamed), fw.net(), fw.batch(4)
    fw.face.wrap(model, ManifoldMixup(), list(PLACES[:2]))
    if audited:
        assert model(x, target=y)[1].mixed
    model.moved, model.middle = model.layer2, "moved"
    del model.layer2
    with pytest.warns(
        UserWarning, match=r"'layer2' cannot be proved: no layer has that name any more\. unwrap"
    ):
        model(x, target=y)
    for _ in range(4):
        output, target = model(x, target=y)
        fw.close(output, by_hand(fw, plain, x, target.plan), rtol=1e-4)
    fw.face.unwrap(model)
    assert fw.hooks(model.layer1) == 0


class Watched:
    """Another thread calls what it is told to in the middle of each forward."""

    asks = None

    def trunk(self, x):
        h = self.layer1(self.stem(x))
        if self.asks is not None and threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=self.asks.values[0])
            thread.start()
            thread.join()
        return self.layer3(self.layer2(h))


def test_what_another_thread_asks_of_a_model_is_not_swapped(fw):
    """Batches are of four samples, which is what an audit's hooks swap."""
    model, seen, (x, y) = net(fw, Watched), [], fw.batch(4)
    # else the audit has others stand in for biases of 0, which all threads see
    fw.load(model, {name: value + value.dtype.type(0.5) for name, value in fw.state(model).items()})
    fw.face.wrap(model, ManifoldMixup(), list(PLACES[:2]))
    h = model.stem(x)
    expected = model.layer1(h)
    model.asks = Shared([lambda: seen.append(model.layer1(h))])
    model(x, target=y)
    assert len(seen) > 2  # in the audit, and in the step
    for output in seen:
        fw.close(output, expected)


class Asked:
    """Goes round layer1 when it is asked to."""

    def forward(self, x, beside=None, *, direct=False):
        self.beside, self.direct = beside["h"] if isinstance(beside, dict) else beside, direct
        return super().forward(x)

    def trunk(self, x):
        h = self.layer1(self.stem(x))
        h = h if self.beside is None else h + self.beside
        return self.layer3(self.layer2(h + self.stem(x) if self.direct else h))


@pytest.mark.parametrize("how", ["beside", "in a container", "direct"])
def test_a_call_of_a_new_form_is_proved_before_it_is_mixed(fw, how):
    """However many forwards are to come before the next round of proofs."""
    (x, y), model = fw.batch(8), net(fw, Asked)
    width = fw.numpy(model.layer1(model.stem(x)))
    more = fw.tensor(np.random.default_rng(0).normal(size=width.shape).astype(np.float32))
    calls = {
        "beside": {"beside": more},
        "in a container": {"beside": {"h": more}},
        "direct": {"direct": True},
    }
    plain = {"beside": {"h": None}} if how == "in a container" else {"direct": False}
    fw.face.wrap(model, ManifoldMixup(pairs="derangement"), "layer1")
    for _ in range(4):
        assert model(x, **plain, target=y)[1].mixed
    with pytest.raises(
        MixingError, match=r"'layer1' is not a true mixing point in this batch, though not in"
    ):
        model(x, **calls[how], target=y)


class Tallied:
    """Notes how many samples it is called with."""

    def forward(self, x, _more=None):
        self.tally.values.append(len(x))
        return super().forward(x)


def test_calls_of_known_forms_are_proved_in_rounds_alone(fw):
    tally = Shared([])
    (x, y), model = fw.batch(8), net(fw, Tallied, tally=tally)
    fw.face.wrap(model, ManifoldMixup(), "layer1")
    proofs = []
    for step in range(1, 8):
        tally.values.clear()
        more = [3.0] if step in (3, 5) else []
        model(x, *more, **{"_more": 3.0} if step == 6 else {}, target=y)  # the same by name
        assert tally.values.count(8) == 1
        if 4 in tally.values:
            proofs.append(step)
    assert proofs == [1, 2, 3, 4]


class Joined:
    """Every sample hears one of them too, as the nodes of a graph do, by numbers that no sample has for itself."""

    fw = None

    def forward(self, x, heard):
        h = self.fw.pooled(self.trunk(x))
        return self.head(h + h[heard[0]])


@pytest.mark.parametrize("heard", [1, 6])
def test_an_input_whose_samples_are_joined_by_what_comes_with_them_is_told(fw, heard):
    """Mixup mixes who hears, not whom. The audit's four samples have no seventh: most frameworks raise."""
    (x, y), model = fw.batch(8), fw.face.wrap(net(fw, Joined), Mixup())
    with pytest.warns(UserWarning, match=r"'input'.*could not be (told|checked)"):
        model(x, fw.tensor(np.array([[heard]])), target=y)


def test_an_input_of_two_tensors_of_features_is_proved_in_silence(fw):
    (x, y), model = fw.batch(8), fw.face.wrap(net(fw, Asked), Mixup())
    width = fw.numpy(model.layer1(model.stem(x)))
    more = fw.tensor(np.random.default_rng(0).normal(size=width.shape).astype(np.float32))
    for _ in range(2):
        assert model(x, more, target=y)[1].mixed
