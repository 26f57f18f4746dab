"""PyTorch, as the shared test bodies use it."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mixlayers.torch
from tests.support.fw_modules import Modules
from tests.torch.networks import Net


class Checkpointed:
    reentrant = False

    def trunk(self, x):
        def run(x):
            return self.layer3(self.layer2(self.layer1(x)))

        return checkpoint(run, self.stem(x), use_reentrant=self.reentrant)


class Reentrant(Checkpointed):
    reentrant = True


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Scaled(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output, target):
        return super().forward(output * self.scale, target)


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, run, again):
        ctx.x, ctx.again = x.detach(), again
        return run(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.x.requires_grad_()
        with torch.enable_grad():
            y = ctx.again(x)
        y.backward(gradient)
        return x.grad, None, None


class Torch(Modules):
    name = "torch"
    face = mixlayers.torch
    nn, Net, Function, Scaled, Own = nn, Net, Function, Scaled, Own
    IEBN = mixlayers.torch.IEBN2d
    Recomputed = (Checkpointed, Reentrant)
    takes = "torch.nn.Module"

    def tensor(self, array, dtype=None):
        tensor = torch.tensor(array)
        return tensor if dtype is None else tensor.to(getattr(torch, dtype))

    def numpy(self, tensor):
        return tensor.detach().double().numpy()

    def dtype(self, tensor):
        return str(tensor.dtype).removeprefix("torch.")

    def gradient(self, f, x, upstream):
        x = x.clone().requires_grad_()
        (f(x) * self.tensor(upstream).to(x.dtype)).sum().backward()
        return self.numpy(x.grad)

    def seed(self, seed):
        torch.manual_seed(seed)

    def random(self):
        return torch.randn(3).numpy()

    def grad(self, output, inputs, create_graph=False):
        return list(torch.autograd.grad(output.sum(), inputs, create_graph=create_graph))

    def wanting(self, x):
        return x.clone().requires_grad_()

    def no_grad(self):
        return torch.no_grad()

    def state(self, model):
        return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}

    def load(self, model, state):
        model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})

    def cast(self, model, dtype):
        return model.to(getattr(torch, dtype))

    def hooks(self, layer):
        return len(layer._forward_hooks) + len(layer._forward_pre_hooks)

    def layers(self, model):
        return list(model.modules())

    def parameters(self, model):
        return list(model.parameters())

    def learner(self, model, rate, adam=False):
        optimizer = (torch.optim.Adam if adam else torch.optim.SGD)(model.parameters(), rate)

        def learn(loss):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return learn

    def by_hand(self, x, perm, lam, mask):
        mixed = lam * x + (1 - lam) * x[torch.tensor(perm)]
        return mixed if mask is None else torch.where(torch.tensor(mask), mixed, x)

    def recompute(self, run, *args, **kwargs):
        return checkpoint(run, *args, use_reentrant=False, **kwargs)
