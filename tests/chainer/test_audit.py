"""What an audit finds in Chainer's own links, and leaves as it was."""

import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Chain

from mixlayers import MixingError
from mixlayers.chainer import audit, wrap


class Recurrent(Chain):
    """A stateful LSTM over time, which a first half of the sequence has warmed up."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.embed, self.lstm, self.head = L.Linear(None, 5), L.LSTM(None, 7), L.Linear(None, 4)

    def forward(self, x):
        return self.head(self.lstm(F.tanh(self.embed(x))))


def test_the_audit_leaves_a_recurrent_state_alone():
    x, model = np.random.default_rng(0).standard_normal((6, 3), dtype=np.float32), Recurrent()
    model(x)
    states = model.lstm.c, model.lstm.h
    audit(model, x)
    assert (model.lstm.c, model.lstm.h) == states or all(
        now is before for now, before in zip((model.lstm.c, model.lstm.h), states, strict=True)
    )
    wrap(model, layers=["embed"])
    with pytest.warns(
        UserWarning, match="differently by their position"
    ):  # as each sample has a state already
        model(x, target=np.arange(6) % 4)  # its first batch is audited, with fewer samples


def test_links_of_lazy_size_get_the_weights_of_any_first_forward():
    x, y = np.random.default_rng(0).standard_normal((6, 3), dtype=np.float32), np.arange(6) % 4
    weights = []
    for mixing in (False, True):
        np.random.seed(4)  # noqa: NPY002  # Chainer draws weights from the global generator
        model = Recurrent()
        model.cleargrads()
        if mixing:
            wrap(model, layers=["embed"])(x, target=y)
        else:
            model(x)
        arrays = {name: p.array for name, p in model.namedparams()}
        weights.append((arrays, np.random.random()))  # noqa: NPY002
    for name, array in weights[0][0].items():
        np.testing.assert_array_equal(array, weights[1][0][name])
    assert weights[0][1] == weights[1][1]


class Sequences(Chain):
    """Steps of several lengths, from an n-step LSTM: as many lists as samples."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.lstm, self.head = L.NStepLSTM(1, 3, 5, 0.0), L.Linear(5, 4)

    def forward(self, *xs):
        state, _, _ = self.lstm(None, None, list(xs))
        return self.head(state[-1])


@pytest.mark.filterwarnings("ignore:layer 'lstm' is not a true mixing point")
def test_lists_of_sequences_are_not_taken_for_batches():
    xs = tuple(np.ones((3, 3), np.float32) * i for i in range(3))  # as long as the batch is wide
    assert audit(Sequences(), xs)["lstm"].reason.startswith("no ")
    model = wrap(Sequences(), layers=["lstm"])
    with pytest.raises(MixingError, match="sequences of several lengths"):
        model(*xs, target=np.arange(3))


class Embedded(Chain):
    """Words, and positions that are the same for every sample."""

    def __init__(self, kept):
        super().__init__()
        with self.init_scope():
            self.words, self.places = L.EmbedID(20, 6), L.EmbedID(9, 6)
            self.mixing, self.head = L.Linear(54, 8), L.Linear(8, 4)
        self.kept = kept

    def forward(self, ids):
        places = np.broadcast_to(np.arange(9, dtype=np.int32), ids.shape)
        h = self.mixing(self.words(ids) + self.places(places))
        return self.head(F.relu(h) if self.kept else F.relu(h) * F.sum(self.words.W[ids], (1, 2))[:, None])


def test_word_indices_are_inputs_and_positions_are_not():
    ids = np.random.default_rng(0).integers(20, size=(6, 9)).astype(np.int32)
    report = audit(Embedded(True), ids)
    assert report.true == ("words", "mixing", "head") and not report.float_input
    report = audit(Embedded(False), ids)  # which looks up a second time, by indexing
    assert report.true == ("head",)
