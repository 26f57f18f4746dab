"""Every checkpoint of PyTorch's own, alone and nested: layers that run again mix as they did."""

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
from tests.torch.recomputed import Net, Y, images, inner, same


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
