"""PyTorch and PaddlePaddle, as the shared test bodies use them: what both libraries call alike."""

import inspect
from contextlib import contextmanager
from typing import Any

from tests.support.fw_base import Base


class Modules(Base):
    """A framework whose layers are modules, with hooks of their own.

    Attributes:
        nn: torch.nn or paddle.nn; its `functional` too.
        Function: A layer without parameters, made of a function.
        Scaled: The cross-entropy with a parameter, `scale`.
        Own: A function with a backward pass of its own.
    """

    nn: Any
    Function: type
    Scaled: type
    Own: Any

    def pooled(self, h):
        return h.mean((2, 3))

    def squares(self, x):
        return x.square().sum()

    def on_gradient(self, x, f):
        x.register_hook(lambda gradient: f())

    @contextmanager
    def evaluating(self, *models):
        for model in models:
            model.eval()
        yield
        for model in models:
            model.train()

    def function(self, f):
        return self.Function(f)

    def linear(self, inputs, outputs):
        return self.nn.Linear(inputs, outputs)

    def sequential(self, *layers):
        return self.nn.Sequential(*layers)

    def relu(self):
        return self.nn.ReLU()

    def criterion(self, per_sample=False):
        return self.nn.CrossEntropyLoss(reduction="none" if per_sample else "mean")

    def criteria(self):
        nn = self.nn
        return [nn.CrossEntropyLoss(label_smoothing=0.1), nn.NLLLoss(), nn.BCEWithLogitsLoss()]

    def scaled_criterion(self):
        criterion = self.Scaled()
        return criterion, criterion.scale

    def gradients(self, model):
        return {name: self.numpy(p.grad) for name, p in model.named_parameters() if p.grad is not None}

    def outside(self, model):
        signature = inspect.signature(model.forward)
        return type(model), list(model.state_dict()), set(vars(model)), signature

    def add_layer(self, model, name, layer):
        setattr(model, name, layer)

    def own_backward(self, run, again, x):
        return self.Own.apply(x, run, again)

    def cross_entropy(self, output, y):
        return self.nn.functional.cross_entropy(output, y)
