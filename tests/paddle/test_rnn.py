"""Recurrent layers as mixing places: the output and the state are mixed alike, whatever axis holds the batch."""

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers import ManifoldMixup
from mixlayers.paddle import audit, cross_entropy, get_mixer, wrap

SIZE, STEPS, WIDTH = 5, 4, 3
KINDS = {
    "LSTM": lambda major: nn.LSTM(WIDTH, 6, time_major=major),
    "GRU": lambda major: nn.GRU(WIDTH, 6, time_major=major),
    "SimpleRNN, both ways": lambda major: nn.SimpleRNN(WIDTH, 6, direction="bidirect", time_major=major),
    "LSTM, as many as samples": lambda major: nn.LSTM(WIDTH, 6, num_layers=SIZE, time_major=major),
    "RNN": lambda major: nn.RNN(nn.GRUCell(WIDTH, 6), time_major=major),
    "RNN of LSTM cells": lambda major: nn.RNN(nn.LSTMCell(WIDTH, 6), time_major=major),
    "BiRNN": lambda major: nn.BiRNN(nn.GRUCell(WIDTH, 6), nn.GRUCell(WIDTH, 6), time_major=major),
}


def leaves(state):
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, list | tuple) else [state]


class Classifier(nn.Layer):
    """Reads the last output, or all of the state, or both."""

    def __init__(self, kind, reads, major):
        super().__init__()
        self.reads, self.major = reads, major
        self.cells = KINDS[kind](major)

    def forward(self, x):
        output, state = self.cells(x)
        found = [output[-1] if self.major else output[:, -1]] if self.reads != "state" else []
        if self.reads != "output":
            for leaf in leaves(state):  # (N, H) of a cell, (layers, N, H) of a stack
                found += [leaf] if leaf.ndim == 2 else list(leaf)
        return paddle.concat(found, axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reads", ["output", "state", "both"])
@pytest.mark.parametrize("major", [False, True])
def test_whatever_is_read_is_mixed_as_the_labels_are(kind, reads, major):
    """What follows the layer is linear, so mixing before it and after it is the same."""
    paddle.seed(0)
    model = Classifier(kind, reads, major)
    x = np.random.default_rng(2).normal(size=(SIZE, STEPS, WIDTH)).astype(np.float32)
    x = paddle.to_tensor(x.transpose(1, 0, 2) if major else x)
    clean = model(x).numpy()
    assert audit(model, x, batch_dim=int(major))["cells"].true
    wrap(model, ManifoldMixup(pairs="derangement"), "cells", batch_dim=int(major))
    output, target = model(x, target=paddle.arange(SIZE) % 4)
    plan = get_mixer(model).last
    np.testing.assert_allclose(
        output.numpy(), plan.lam * clean + (1 - plan.lam) * clean[plan.perm], rtol=1e-5, atol=1e-6
    )
    assert target.s == pytest.approx(1 - plan.lam)
    cross_entropy(output, target).backward()
