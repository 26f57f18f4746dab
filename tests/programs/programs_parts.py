"""The few operations of each framework that the nets of programs are made of, and what it cannot do by itself."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace


@contextmanager
def awake(net):
    """Training mode, inside of eval mode."""
    before = net.training  # where the code around runs again in backward, it may be in training mode
    net.train()
    yield
    net.train() if before else net.eval()


def torch_parts(fw):
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    def once(reentrant, stop=True):
        options = {} if reentrant else {"early_stop": stop}
        return lambda f, x: checkpoint(f, x, use_reentrant=reentrant, **options)

    return SimpleNamespace(
        base=nn.Module,
        scope=lambda net: nullcontext(),
        conv=lambda i, o: nn.Conv2d(i, o, 1),
        tanh=torch.tanh,
        pool=lambda h: h.mean((2, 3)),
        gate=lambda h, result: h * (1.0 + torch.tanh(result.sum(1)).reshape((-1,) + (1,) * (h.ndim - 1))),
        ready=lambda net: net.train(),
        awake=awake,
        kinds={
            "not reentrant": once(False),
            "to the end": once(False, stop=False),
            "reentrant": once(True),
        },
        penalised={"not reentrant", "to the end"},
        unrecorded={"reentrant"},
        detach=lambda x: x.detach(),
        backward=lambda loss, retain: loss.backward(retain_graph=retain),
        mean=lambda loss: loss.mean(),
        clear=lambda net: net.zero_grad(),
        known_detached=True,
        retains=lambda how: True,
        told=True,
        nests=lambda kinds: True,
        together=True,
        errors=(torch.utils.checkpoint.CheckpointError,),
    )


def paddle_parts(fw):
    import paddle
    from paddle import nn
    from paddle.distributed.fleet.utils import recompute

    return SimpleNamespace(
        base=nn.Layer,
        scope=lambda net: nullcontext(),
        conv=lambda i, o: nn.Conv2D(i, o, 1),
        tanh=paddle.tanh,
        pool=lambda h: h.mean((2, 3)),
        gate=lambda h, result: h * (1.0 + paddle.tanh(result.sum(1)).reshape([-1] + [1] * (h.ndim - 1))),
        ready=lambda net: (net.train(), net)[1],
        awake=awake,
        kinds={
            "not reentrant": lambda f, x: recompute(f, x, use_reentrant=False),
            "reentrant": lambda f, x: recompute(f, x, use_reentrant=True),
        },
        penalised=set(),
        unrecorded={"reentrant"},
        detach=lambda x: x.detach(),
        backward=lambda loss, retain: loss.backward(retain_graph=retain),
        mean=lambda loss: loss.mean(),
        clear=lambda net: [parameter.clear_gradient(False) for parameter in net.parameters()],
        known_detached=False,
        retains=lambda how: False,  # Paddle's own second backward crashes (PyLayer) or is not twice the first
        told=False,  # a PyLayer has no hooks
        nests=lambda kinds: "not reentrant" not in kinds[:-1],  # else Paddle itself raises or crashes
        together=True,
        errors=(OSError,),
    )


def chainer_parts(fw):
    import chainer
    import chainer.functions as F
    import chainer.links as L

    def ready(net):
        net.cleargrads()
        return net

    def backward(loss, retain):
        loss.backward(retain_grad=False)

    def gate(h, result):
        factor = F.reshape(1.0 + F.tanh(F.sum(result, axis=1)), (-1,) + (1,) * (h.ndim - 1))
        return h * F.broadcast_to(factor, h.shape)

    return SimpleNamespace(
        base=chainer.Chain,
        scope=lambda net: net.init_scope(),
        conv=lambda i, o: L.Convolution2D(i, o, 1),
        tanh=F.tanh,
        pool=lambda h: F.mean(h, axis=(2, 3)),
        gate=gate,
        ready=ready,
        awake=lambda net: chainer.using_config("train", True),
        kinds={"forget": lambda f, x: F.forget(f, x)},
        penalised=set(),
        unrecorded=set(),
        detach=lambda x: x.array,
        backward=backward,
        mean=F.mean,
        clear=lambda net: net.cleargrads(),
        known_detached=False,
        retains=lambda how: True,
        told=True,
        nests=lambda kinds: True,
        together=False,  # Chainer itself loses gradients of what runs inside F.forget and outside of it
        errors=(),
    )
