"""Small nets that can be run in every way: recomputed, in part or whole, interrupted, called from within."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np

CLASSES = 4


def build(fw, parts, conv, how="direct", seed=0):
    """A net of layers a, b and c, and what a program may do with its forward.

    Args:
        fw: The framework.
        parts: Its few operations, from `torch_parts` and so on.
        conv: Whether a and b are convolutions.
        how: By which of `parts.bodies` the layers a and b are run.
        seed: Of the weights.
    """

    class Net(parts.base):
        def __init__(self):
            super().__init__()
            layer = parts.conv if conv else fw.linear
            with parts.scope(self):
                self.a, self.b, self.c = layer(3 if conv else CLASSES, 5), layer(5, 6), fw.linear(6, CLASSES)
            self.how, self.inside, self.silent, self.kept = how, None, False, None

        def body(self, inside, x):
            h = parts.tanh(self.a(x))
            if inside is not None:
                inside(self)
            return parts.tanh(self.b(h))

        def forward(self, x):
            inside, self.inside = self.inside, None
            h = parts.bodies[self.how](partial(self.body, inside), x)
            output = self.c(parts.pool(h) if conv else h)
            if self.silent:
                self.kept = output
                return None
            return output

    fw.seed(seed)
    return parts.ready(Net())


def by_hand(fw, parts, net, x, plan):
    """The output of a net that was never wrapped, mixed as a plan says, and the partner's share of the label."""
    share = [0.0]

    def mix(place, h):
        if plan is None or plan.place != place:
            return h
        how = plan.blend(tuple(h.shape))
        share[0] = how.s
        lam = how.lam
        if isinstance(lam, np.ndarray):
            lam = fw.tensor(lam.reshape((-1,) + (1,) * (h.ndim - 1)))
        return fw.by_hand(h, how.perm, lam, how.mask)

    h = parts.tanh(mix("a", net.a(mix("input", x))))
    h = parts.tanh(mix("b", net.b(h)))
    return net.c(parts.pool(h) if h.ndim == 4 else h), share[0]


def torch_parts(fw):
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    def once(reentrant, stop=True):
        options = {} if reentrant else {"early_stop": stop}
        return lambda f, x: checkpoint(f, x, use_reentrant=reentrant, **options)

    def twice(one, other):
        return lambda f, x: one(lambda x: other(f, x), x)

    keep, again = once(False), once(True)
    bodies = {
        "direct": lambda f, x: f(x),
        "not reentrant": keep,
        "to the end": once(False, stop=False),
        "reentrant": again,
        "not reentrant in reentrant": twice(again, keep),
        "reentrant in not reentrant": twice(keep, again),
        "reentrant in reentrant": twice(again, again),
    }
    return SimpleNamespace(
        base=nn.Module,
        scope=lambda net: nullcontext(),
        conv=lambda i, o: nn.Conv2d(i, o, 1),
        tanh=torch.tanh,
        pool=lambda h: h.mean((2, 3)),
        ready=lambda net: net.train(),
        bodies=bodies,
        wholes={"direct": bodies["direct"], "not reentrant": keep, "reentrant": again},
        penalised=("direct", "not reentrant", "to the end"),
        unrecorded=[name for name in bodies if "reentrant" in name.replace("not reentrant", "")],
        detach=lambda x: x.detach(),
        backward=lambda loss, retain: loss.backward(retain_graph=retain),
        mean=lambda loss: loss.mean(),
        clear=lambda net: net.zero_grad(),
        known_detached=True,
        retains=lambda how: True,
        nests=lambda whole, how: True,
        together=True,
        errors=(torch.utils.checkpoint.CheckpointError,),
    )


def paddle_parts(fw):
    import paddle
    from paddle import nn
    from paddle.distributed.fleet.utils import recompute

    bodies = {
        "direct": lambda f, x: f(x),
        "not reentrant": lambda f, x: recompute(f, x, use_reentrant=False),
        "reentrant": lambda f, x: recompute(f, x, use_reentrant=True),
    }
    return SimpleNamespace(
        base=nn.Layer,
        scope=lambda net: nullcontext(),
        conv=lambda i, o: nn.Conv2D(i, o, 1),
        tanh=paddle.tanh,
        pool=lambda h: h.mean((2, 3)),
        ready=lambda net: (net.train(), net)[1],
        bodies=bodies,
        wholes=bodies,
        penalised=("direct",),
        unrecorded=["reentrant"],
        detach=lambda x: x.detach(),
        backward=lambda loss, retain: loss.backward(retain_graph=retain),
        mean=lambda loss: loss.mean(),
        clear=lambda net: [parameter.clear_gradient(False) for parameter in net.parameters()],
        known_detached=False,
        retains=lambda how: False,  # Paddle's own second backward crashes (PyLayer) or is not twice the first
        nests=lambda whole, how: (
            whole != "not reentrant" or how == "direct"
        ),  # else Paddle itself raises or crashes
        together=True,
        errors=(OSError,),
    )


def chainer_parts(fw):
    import chainer
    import chainer.functions as F
    import chainer.links as L

    bodies = {"direct": lambda f, x: f(x), "forget": lambda f, x: F.forget(f, x)}

    def ready(net):
        net.cleargrads()
        return net

    def backward(loss, retain):
        loss.backward(retain_grad=False)

    return SimpleNamespace(
        base=chainer.Chain,
        scope=lambda net: net.init_scope(),
        conv=lambda i, o: L.Convolution2D(i, o, 1),
        tanh=F.tanh,
        pool=lambda h: F.mean(h, axis=(2, 3)),
        ready=ready,
        bodies=bodies,
        wholes=bodies,
        penalised=("direct",),
        unrecorded=[],
        detach=lambda x: x.array,
        backward=backward,
        mean=F.mean,
        clear=lambda net: net.cleargrads(),
        known_detached=False,
        retains=lambda how: True,
        nests=lambda whole, how: True,
        together=False,  # Chainer itself loses gradients of what runs inside F.forget and outside of it
        errors=(),
    )
