"""Every way in which PyTorch runs layers again in backward, alone and nested."""

import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed._composable import checkpoint as composable
from torch.utils.checkpoint import (
    CheckpointError,
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    set_checkpoint_early_stop,
)

from mixlayers import CutMix, DropBlock, ManifoldMixup, MixingError, MixStyle, Mixup, MoEx, PatchUp
from mixlayers.torch import Mixer, cross_entropy, wrap
from mixlayers_torch import _autograd

Y = torch.arange(6) % 3


class Net(nn.Module):
    """Two convolutions and a head; `run` runs its body."""

    def __init__(self, run=lambda f, x: f(x)):
        super().__init__()
        torch.manual_seed(0)
        self.run, self.a, self.b, self.c = run, nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def body(self, x):
        return torch.tanh(self.b(torch.tanh(self.a(x))))

    def forward(self, x):
        return self.c(self.run(self.body, x).mean((2, 3)))


def images(scale=1.0):
    return (torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * scale).requires_grad_()


def gradients(net):
    return [parameter.grad for parameter in net.parameters()]


def same(nets):
    for net in nets[1:]:
        for one, other in zip(gradients(net), gradients(nets[0]), strict=True):
            torch.testing.assert_close(one, other)


def inner(reentrant):
    return lambda f, x: checkpoint(f, x, use_reentrant=reentrant)


def twice(first, second):
    return lambda f, x: first(lambda x: second(f, x), x)


BODIES = {
    "reentrant": inner(True),
    "not": inner(False),
    "not in reentrant": twice(inner(True), inner(False)),
    "reentrant in not": twice(inner(False), inner(True)),
    "reentrant twice": twice(inner(True), inner(True)),
    "not twice": twice(inner(False), inner(False)),
}
WHOLE = {
    "as it is": lambda net, x, y: net(x, target=y),
    "reentrant": lambda net, x, y: checkpoint(
        lambda x: cross_entropy(*net(x, target=y)), x, use_reentrant=True
    ),
    "not": lambda net, x, y: checkpoint(net, x, target=y, use_reentrant=False),
}


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("body", BODIES)
def test_checkpoints_in_checkpoints(body, whole, early_stop):
    """Clean and mixed forwards in turns, then one backward pass through all of them."""
    nets = []
    for how, around in (((lambda f, x: f(x)), WHOLE["as it is"]), (BODIES[body], WHOLE[whole])):
        net = wrap(Net(how), ManifoldMixup(), layers=["a"])
        with set_checkpoint_early_stop(early_stop):
            losses = [net(images()).square().mean()]
            for scale in (1.0, 2.0):
                result = around(net, images(scale), Y)
                losses.append(cross_entropy(*result) if isinstance(result, tuple) else result)
                losses.append(net(images(scale)).square().mean())
            sum(losses).backward()
        nets.append(net)
    same(nets)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_whole_model_with_a_late_loss(reentrant):
    nets = []
    for whole in (False, True):
        net = Net()
        criterion = Mixer(net, layers=["a", "input"]).loss(nn.CrossEntropyLoss())
        run = partial(checkpoint, net, use_reentrant=reentrant) if whole else net
        outputs = [run(images(scale)) for scale in (1.0, 2.0)]
        (criterion(outputs[1][:, :3] * 2.0, Y) + criterion(outputs[0], Y)).backward()
        nets.append(net)
    same(nets)


def test_a_whole_model_whose_loss_ignores_the_mixing_is_stopped():
    for reentrant in (True, False):
        net = Net()
        Mixer(net, layers=["a"]).loss(nn.CrossEntropyLoss())
        loss = nn.functional.cross_entropy(checkpoint(net, images(), use_reentrant=reentrant), Y)
        with pytest.raises(MixingError, match="no loss used the mixed target"):
            loss.backward()


def test_a_retained_graph_is_run_again():
    for reentrant in (True, False):
        nets = []
        for how in (lambda f, x: f(x), inner(reentrant)):
            net = wrap(Net(how), layers=["a"])
            loss = cross_entropy(*net(images(), target=Y))
            net(images(2.0))
            loss.backward(retain_graph=True)
            loss.backward()
            nets.append(net)
        same(nets)


def test_checkpoints_by_hooks_on_modules():
    """torch.distributed's, which are no calls."""
    nets = []
    for recomputed in (False, True):
        net = Net()
        body = nn.Sequential(net.a, nn.Tanh(), net.b, nn.Tanh())
        net.body, net.run = body, lambda f, x: f(x)
        if recomputed:
            composable(body)
        wrap(net, layers=["a"])
        loss = cross_entropy(*net(images(), target=Y)) + net(images(2.0)).square().mean()
        loss.backward()
        nets.append(net)
    same([nets[0], nets[1]])


METHODS = [
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample"),
    PatchUp("soft", block_size=3),
    PatchUp("hard", block_size=3),
]


@pytest.mark.parametrize("kept", ["index_select", "clone", "lerp", "where", "convolution"])
@pytest.mark.parametrize(
    "method", [*METHODS, CutMix(), Mixup(), DropBlock(block_size=3), MixStyle(), MoEx()], ids=repr
)
def test_selective_checkpointing_may_keep_any_result(method, kept):
    """What it keeps must not be written on."""

    def policy(context, operation, *args, **kwargs):
        return CheckpointPolicy.MUST_SAVE if kept in str(operation) else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    nets = []
    for how in (
        lambda f, x: f(x),
        lambda f, x: checkpoint(f, x, use_reentrant=False, context_fn=contexts),
    ):
        net = wrap(Net(how), method, **({"layers": ["a"]} if method.hidden else {}))
        cross_entropy(*net(images(), target=Y)).backward()
        nets.append(net)
    same(nets)


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


@pytest.mark.parametrize("order", ["mixed clean", "clean mixed", "mixed mixed"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_compiled_part_that_runs_again_is_right_or_stopped(order, reentrant):
    """Its graph is chosen by what runs now, and checked by what the segment remembers."""
    torch.compiler.reset()
    nets = []
    for how in (lambda f, x: f(x), inner(reentrant)):
        net = Net(how)
        wrap(net, layers=["a", "b"])
        if nets:
            body = torch.compile(net.body, backend="aot_eager")
            net.run = lambda f, x, how=how, body=body: how(body, x)
        losses = []
        for scale, kind in enumerate(order.split(), start=1):
            if kind == "mixed":
                losses.append(cross_entropy(*net(images(scale), target=Y)))
            else:
                losses.append(net(images(scale)).square().mean())
        try:
            sum(losses).backward()
        except CheckpointError:
            assert not reentrant and order == "clean mixed"
            return
        nets.append(net)
    same(nets)
