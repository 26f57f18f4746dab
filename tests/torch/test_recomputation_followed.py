"""Functions of somebody's own that run layers again, or do not, and what cannot be followed at all."""

import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mixlayers import MixingError, Mixup
from mixlayers.torch import Mixer, cross_entropy, wrap
from mixlayers_torch import _autograd
from tests.torch.recomputed import Net, Y, images, inner, same


class Again(torch.autograd.Function):
    """Somebody's own checkpoint."""

    @staticmethod
    def forward(ctx, f, x):
        ctx.f = f
        ctx.save_for_backward(x)
        return f(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.f(x)
        y.backward(gradient)
        return None, x.grad


class Backwards(torch.autograd.Function):
    """A function that does not run its layers again: it knows their derivative."""

    @staticmethod
    def forward(ctx, f, x):
        return f(x)

    @staticmethod
    def backward(ctx, gradient):
        return None, torch.zeros(6, 3, 8, 8)


class Unfollowed(torch.autograd.Function):
    """A checkpoint whose forward does not take ctx, so that nothing tells its backward which forward it was."""

    @staticmethod
    def forward(f, x):
        return f(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.f, x = inputs
        ctx.save_for_backward(x)

    backward = Again.backward


def test_somebodys_own_checkpoint():
    nets = []
    for how in (lambda f, x: f(x), Again.apply):
        net = wrap(Net(how), layers=["a"])
        (net(images(2.0)).square().mean() + cross_entropy(*net(images(), target=Y))).backward()
        nets.append(net)
    same(nets)


@pytest.mark.filterwarnings("ignore:layer 'a' is not a true mixing point")
@pytest.mark.parametrize(
    ("function", "says"),
    [(Backwards, "does not run it again in backward"), (Unfollowed, "could not follow in the forward")],
)
def test_functions_that_cannot_be_right_are_refused(function, says):
    net = wrap(Net(function.apply), layers=["a"])
    loss = cross_entropy(*net(images(), target=Y))
    with pytest.raises(MixingError, match=says):
        loss.backward()


def test_a_frozen_part_may_run_without_gradients():
    def frozen(f, x):
        with torch.no_grad():
            return f(x)

    net = Net(frozen)
    mixer = Mixer(net, layers=["a"])
    criterion = mixer.loss(nn.CrossEntropyLoss())
    x = images()
    output = net(x)
    hidden = net.a(x)
    mixed = mixer.last.lam * hidden + (1 - mixer.last.lam) * hidden[torch.tensor(mixer.last.perm)]
    expected = net.c(torch.tanh(net.b(torch.tanh(mixed))).mean((2, 3)))
    torch.testing.assert_close(output, expected)
    criterion(output, Y).backward()
    assert net.c.weight.grad is not None and net.a.weight.grad is None


def test_this_version_of_pytorch_has_the_private_names():
    assert not _autograd.LACKING


@pytest.mark.parametrize("thread", [False, True])
def test_an_output_that_the_model_keeps_behind_a_reentrant_checkpoint_is_not_taken_for_clean(thread):
    """Its graph shows no parameter and no mixed tensor: only that some forward's target is still to be used."""

    class Keeper(Net):
        def forward(self, x):
            anchor = torch.ones(1, requires_grad=True)
            run = partial(checkpoint, use_reentrant=True)
            self.kept = run(lambda x, _: self.c(self.body(x).mean((2, 3))), x, anchor)

    net = Keeper()
    mixer = Mixer(net, Mixup())
    criterion = mixer.loss(nn.CrossEntropyLoss())

    def train():
        with mixer(Y):
            net(images().detach())

    if thread:
        worker = threading.Thread(target=train)
        worker.start()
        worker.join()
    else:
        train()
    with pytest.raises(MixingError, match="cannot be told from one of a mixed forward"):
        criterion(net.kept, Y)


def test_what_cannot_be_followed_is_refused(monkeypatch):
    monkeypatch.setattr(_autograd, "LACKING", ["utils.checkpoint._CheckpointFrame"])
    cross_entropy(*wrap(Net(), layers=["a"])(images(), target=Y)).backward()
    with pytest.raises(MixingError, match="by which mixlayers follows activation"):
        wrap(Net(inner(False)), layers=["a"])(images(), target=Y)
