"""A small net whose body may run in a recomputed segment."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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
