"""PyTorch, as the shared test bodies use it."""

import inspect
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import mixlayers.torch
from tests.support.fw_base import Base
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


class Torch(Base):
    name = "torch"
    face = mixlayers.torch
    Net = Net
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

    def pooled(self, h):
        return h.mean((2, 3))

    def stages(self, sequence):
        return list(sequence)

    def squares(self, x):
        return x.square().sum()

    def wanting(self, x):
        return x.clone().requires_grad_()

    def on_gradient(self, x, f):
        x.register_hook(lambda gradient: f())

    @contextmanager
    def evaluating(self, *models):
        for model in models:
            model.eval()
        yield
        for model in models:
            model.train()

    def no_grad(self):
        return torch.no_grad()

    def function(self, f):
        return Function(f)

    def linear(self, inputs, outputs):
        return nn.Linear(inputs, outputs)

    def sequential(self, *layers):
        return nn.Sequential(*layers)

    def relu(self):
        return nn.ReLU()

    def criterion(self, per_sample=False):
        return nn.CrossEntropyLoss(reduction="none" if per_sample else "mean")

    def criteria(self):
        return [nn.CrossEntropyLoss(label_smoothing=0.1), nn.NLLLoss(), nn.BCEWithLogitsLoss()]

    def scaled_criterion(self):
        criterion = Scaled()
        return criterion, criterion.scale

    def gradients(self, model):
        return {name: self.numpy(p.grad) for name, p in model.named_parameters() if p.grad is not None}

    def state(self, model):
        return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}

    def load(self, model, state):
        model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})

    def cast(self, model, dtype):
        return model.to(getattr(torch, dtype))

    def outside(self, model):
        signature = inspect.signature(model.forward)
        return type(model), list(model.state_dict()), set(vars(model)), signature

    def hooks(self, layer):
        return len(layer._forward_hooks) + len(layer._forward_pre_hooks)

    def layers(self, model):
        return list(model.modules())

    def parameters(self, model):
        return list(model.parameters())

    def add_layer(self, model, name, layer):
        setattr(model, name, layer)

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

    def own_backward(self, run, again, x):
        return Own.apply(x, run, again)

    def cross_entropy(self, output, y):
        return F.cross_entropy(output, y)
