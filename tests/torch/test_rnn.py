"""Recurrent layers as mixing places: the output and the state are mixed alike, whatever axis holds the batch."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mixlayers import ManifoldMixup, MixingError
from mixlayers.torch import audit, cross_entropy, get_mixer, unwrap, wrap

SIZE, STEPS, WIDTH = 5, 4, 3
LABELS = torch.arange(SIZE) % 4
DERANGED = ManifoldMixup(pairs="derangement")


class Classifier(nn.Module):
    """Reads the last output, or the last state (of an LSTM h, or its cell c), or both."""

    def __init__(self, cell, reads="output", **options):
        super().__init__()
        self.reads, self.first = reads, options.get("batch_first", False)
        self.cells = cell(WIDTH, 6, **options)
        self.head = nn.Linear(6 * (1 + bool(options.get("bidirectional"))), 4)

    def forward(self, x):
        output, state = self.cells(x)
        hidden, cell = state if isinstance(state, tuple) else (state, state)
        state = cell if self.reads == "cell" else hidden
        directions = 1 + self.cells.bidirectional
        state = torch.cat([*state[-directions:]], 1)
        output = output[:, -1] if self.first else output[-1]
        return self.head({"output": output, "both": output + state}.get(self.reads, state))


def sequences(first):
    x = torch.randn(SIZE, STEPS, WIDTH, generator=torch.Generator().manual_seed(2))
    return x if first else x.transpose(0, 1).contiguous()


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("reads", ["output", "state", "cell", "both"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": SIZE}])
def test_whatever_is_read_is_mixed_as_the_labels_are(cell, reads, first, options):
    """The head is linear, so mixing before it and after it is the same."""
    torch.manual_seed(0)
    model = Classifier(cell, reads, batch_first=first, **options)
    x = sequences(first)
    clean = model(x)
    point = audit(model, x, batch_dim=0 if first else 1)["cells"]
    assert point.true and point.shape is not None
    wrap(model, DERANGED, "cells", batch_dim=0 if first else 1)
    output, target = model(x, target=LABELS)
    plan = get_mixer(model).last
    torch.testing.assert_close(output, plan.lam * clean + (1 - plan.lam) * clean[torch.tensor(plan.perm)])
    assert target.s == pytest.approx(1 - plan.lam)
    cross_entropy(output, target).backward()


def test_gradients_are_those_of_mixing_by_hand():
    torch.manual_seed(0)
    model = Classifier(nn.LSTM, "both", batch_first=True, num_layers=2).double()
    plain, x = copy.deepcopy(model), sequences(True).double()
    wrap(model, DERANGED, "cells")
    output, target = model(x, target=LABELS)
    target.blend(lambda y: nn.functional.cross_entropy(output, y)).backward()
    plan = get_mixer(model).last
    perm, logits = torch.tensor(plan.perm), plain(x)
    mixed = plan.lam * logits + (1 - plan.lam) * logits[perm]
    loss = plan.lam * nn.functional.cross_entropy(mixed, LABELS)
    loss = loss + (1 - plan.lam) * nn.functional.cross_entropy(mixed, LABELS[perm])
    loss.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, dict(plain.named_parameters())[name].grad, msg=name)


def test_an_inner_sequence_first_layer_keeps_its_own_batch_axis():
    """As many steps as samples, in a model that is batch first outside."""

    class Turned(Classifier):
        def forward(self, x):
            return super().forward(x.transpose(0, 1))

    torch.manual_seed(0)
    model, x = Turned(nn.GRU), torch.randn(STEPS, STEPS, WIDTH)
    clean = model(x)
    assert audit(model, x)["cells"].true
    wrap(model, DERANGED, "cells")
    output, target = model(x, target=LABELS[:STEPS])
    plan = get_mixer(model).last
    torch.testing.assert_close(output, plan.lam * clean + (1 - plan.lam) * clean[torch.tensor(plan.perm)])
    assert target.partner is not None


class Packing(nn.Module):
    """Packs and unpacks around its cells."""

    def __init__(self):
        super().__init__()
        self.embed, self.cells, self.head = nn.Linear(WIDTH, 6), nn.LSTM(6, 6), nn.Linear(6, 4)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.embed(x), lengths, enforce_sorted=False, batch_first=True)
        output, _ = pad_packed_sequence(self.cells(packed)[0], batch_first=True)
        return self.head(output.sum(1))


@pytest.mark.parametrize("place", ["cells", "input"])
def test_packed_sequences_are_refused_with_the_way_out(place):
    lengths = torch.tensor([4, 2, 3, 1, 4])
    if place == "input":
        model = nn.LSTM(WIDTH, 6)
        call = (pack_padded_sequence(sequences(False), lengths, enforce_sorted=False),)
    else:
        model, call = Packing(), (sequences(True), lengths)
        assert not audit(model, call)["cells"].true
    wrap(model, DERANGED, place)
    refusal = r"PackedSequence.*mix before packing or after pad_packed_sequence"
    # the audit warns that it is no true mixing point
    with warnings.catch_warnings(action="ignore"), pytest.raises(MixingError, match=refusal):
        model(*call, target=LABELS)


def test_mixing_elsewhere_leaves_packing_alone():
    model, lengths = Packing(), torch.tensor([4, 2, 3, 1, 4])
    wrap(model, DERANGED, "embed")
    with pytest.raises(ValueError, match="'lengths' reaches it another way"):  # a longer partner is cut off
        model(sequences(True), lengths, target=LABELS)
    unwrap(model)
    wrap(model, DERANGED, "embed", trust=True)
    output, target = model(sequences(True), lengths, target=LABELS)
    cross_entropy(output, target).backward()
    unwrap(model)


def test_a_sequence_without_a_batch_is_refused():
    wrapped = wrap(nn.Sequential(nn.Linear(WIDTH, 6), nn.LSTM(6, SIZE)), DERANGED, "1")
    with pytest.raises(MixingError, match="no floating-point tensor"):
        wrapped(torch.randn(SIZE, WIDTH), target=LABELS)


class Keeping(nn.Module):
    """A cell whose state stays in the module from call to call."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.head, self.state = (
            nn.Linear(WIDTH, 6),
            nn.GRUCell(6, 6),
            nn.Linear(6, 4),
            None,
        )

    def forward(self, x):
        self.state = self.cell(self.embed(x), self.state)
        return self.head(self.state)


def test_a_window_of_truncated_backpropagation_keeps_one_plan():
    """Two windows of three batches, the state detached between them, against mixing by hand."""
    torch.manual_seed(0)
    model, x = Keeping(), torch.randn(6, SIZE, WIDTH)
    hand = copy.deepcopy(model)
    wrap(model, DERANGED, layers=["embed"])
    mixer, state = get_mixer(model), None
    for window in (x[:3], x[3:]):
        with mixer.same_plan():
            loss = sum(cross_entropy(*model(batch, target=LABELS)) for batch in window)
        loss.backward()
        model.state = model.state.detach()
        plan, expected = mixer.last, 0.0
        perm = torch.from_numpy(plan.perm)
        for batch in window:
            hidden = hand.embed(batch)
            state = hand.cell(plan.lam * hidden + (1 - plan.lam) * hidden[perm], state)
            output = hand.head(state)
            own, partner = (nn.functional.cross_entropy(output, y) for y in (LABELS, LABELS[perm]))
            expected = expected + plan.lam * own + (1 - plan.lam) * partner
        expected.backward()
        state = state.detach()
        torch.testing.assert_close(loss, expected)
    assert mixer.step == 2
    for ours, theirs in zip(model.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
