"""PaddlePaddle, as the shared test bodies use it."""

import inspect
from contextlib import contextmanager

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute

import mixlayers.paddle
from tests.paddle.paddle_networks import Net
from tests.support.fw_base import Base


class Recomputed:
    reentrant = False

    def trunk(self, x):
        x = self.stem(x)
        return recompute(lambda x: self.layer3(self.layer2(self.layer1(x))), x, use_reentrant=self.reentrant)


class Reentrant(Recomputed):
    """As `use_reentrant=True`, Paddle's default."""

    reentrant = True


class LayerByLayer:
    """A backward pass inside each of several: Paddle's own flag is lost after the first."""

    def trunk(self, x):
        x = self.stem(x)
        for layer in (self.layer1, self.layer2, self.layer3):
            x = recompute(layer, x, use_reentrant=True)
        return x


class Function(nn.Layer):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Scaled(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, output, target):
        return super().forward(output * self.scale, target)


class Own(PyLayer):
    @staticmethod
    def forward(ctx, x, run, again):
        ctx.x, ctx.again = x.detach(), again
        return run(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.x
        x.stop_gradient = False
        with paddle.enable_grad():
            y = ctx.again(x)
        paddle.autograd.backward([y], [gradient])
        return x.grad


class Paddle(Base):
    name = "paddle"
    face = mixlayers.paddle
    Net = Net
    Recomputed = (Recomputed, Reentrant, LayerByLayer)
    takes = "paddle.nn.Layer"
    unused = (
        OSError,
        "MixingError: .*",
    )  # Paddle hands on what a gradient hook raises as OSError, with its text

    def tensor(self, array, dtype=None):
        tensor = paddle.to_tensor(array)
        return tensor if dtype is None else tensor.astype(dtype)

    def numpy(self, tensor):
        return tensor.detach().astype("float64").numpy()

    def dtype(self, tensor):
        return str(tensor.dtype).removeprefix("paddle.")

    def gradient(self, f, x, upstream):
        x = x.clone().detach()
        x.stop_gradient = False
        (f(x) * self.tensor(upstream).astype(x.dtype)).sum().backward()
        return self.numpy(x.grad)

    def seed(self, seed):
        paddle.seed(seed)

    def random(self):
        return paddle.randn([3]).numpy()

    def grad(self, output, inputs, create_graph=False):
        return paddle.grad(output.sum(), inputs, create_graph=create_graph)

    def pooled(self, h):
        return h.mean((2, 3))

    def stages(self, sequence):
        return list(sequence)

    def squares(self, x):
        return x.square().sum()

    def wanting(self, x):
        x = x.clone().detach()
        x.stop_gradient = False
        return x

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
        return paddle.no_grad()

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
        return {name: value.numpy().copy() for name, value in model.state_dict().items()}

    def load(self, model, state):
        assert model.set_state_dict({name: paddle.to_tensor(value) for name, value in state.items()}) == (
            [],
            [],
        )

    def cast(self, model, dtype):
        return model.to(dtype=dtype)

    def outside(self, model):
        signature = inspect.signature(model.forward)
        return type(model), list(model.state_dict()), set(vars(model)), signature

    def hooks(self, layer):
        flags = (value for name, value in vars(layer).items() if name.startswith("_forward_p"))
        return sum(len(kept) for kept in flags if "flag" not in str(kept))

    def layers(self, model):
        return model.sublayers(include_self=True)

    def parameters(self, model):
        return model.parameters()

    def add_layer(self, model, name, layer):
        setattr(model, name, layer)

    def learner(self, model, rate, adam=False):
        kind = paddle.optimizer.Adam if adam else paddle.optimizer.SGD
        optimizer = kind(rate, parameters=model.parameters())

        def learn(loss):
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()

        return learn

    def by_hand(self, x, perm, lam, mask):
        mixed = lam * x + (1 - lam) * paddle.gather(x, paddle.to_tensor(perm))
        if mask is None:
            return mixed
        return paddle.where(paddle.to_tensor(np.broadcast_to(mask, x.shape)), mixed, x)

    def recompute(self, run, *args, **kwargs):
        return recompute(run, *args, use_reentrant=False, **kwargs)

    def own_backward(self, run, again, x):
        return Own.apply(x, run, again)

    def cross_entropy(self, output, y):
        return F.cross_entropy(output, y)
