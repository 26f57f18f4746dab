"""PaddlePaddle, as the shared test bodies use it."""

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute

import mixlayers.paddle
from tests.paddle.paddle_networks import Net
from tests.support.fw_modules import Modules


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


class Paddle(Modules):
    name = "paddle"
    face = mixlayers.paddle
    nn, Net, Function, Scaled, Own = nn, Net, Function, Scaled, Own
    IEBN = mixlayers.paddle.IEBN2D
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

    def wanting(self, x):
        x = x.clone().detach()
        x.stop_gradient = False
        return x

    def no_grad(self):
        return paddle.no_grad()

    def state(self, model):
        return {name: value.numpy().copy() for name, value in model.state_dict().items()}

    def load(self, model, state):
        assert model.set_state_dict({name: paddle.to_tensor(value) for name, value in state.items()}) == (
            [],
            [],
        )

    def cast(self, model, dtype):
        return model.to(dtype=dtype)

    def hooks(self, layer):
        flags = (value for name, value in vars(layer).items() if name.startswith("_forward_p"))
        return sum(len(kept) for kept in flags if "flag" not in str(kept))

    def layers(self, model):
        return model.sublayers(include_self=True)

    def parameters(self, model):
        return model.parameters()

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
