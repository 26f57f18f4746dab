"""Small networks for the tests of hooks; real models are in paddle_models.py."""

import numpy as np
import paddle
from paddle import nn


class Block(nn.Layer):
    """A residual block."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.norm = nn.Conv2D(width, width, 3, padding=1), nn.BatchNorm2D(width)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.norm(self.conv(x)))


class Net(nn.Layer):
    """Three stages, each a residual block; the same as the network of tests/torch."""

    def __init__(self, width=6, dropout=0.0):
        super().__init__()
        self.stem = nn.Conv2D(3, width, 3, padding=1)
        self.layer1, self.layer2, self.layer3 = Block(width), Block(width), Block(width)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, 4)

    def trunk(self, x):
        return self.layer3(self.layer2(self.layer1(self.stem(x))))

    def forward(self, x):
        return self.head(self.dropout(self.trunk(x).flatten(2).mean(-1)))


def net(kind=Net, seed=0, **options):
    state = paddle.get_rng_state()
    paddle.seed(seed)
    made = kind(**options)
    paddle.set_rng_state(state)
    return made


def batch(size=6, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, 3, 8, 8), dtype=np.float32)
    return paddle.to_tensor(x), paddle.to_tensor(rng.integers(4, size=size))


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if not p.stop_gradient}


def close(first, second, rtol=1e-5, atol=1e-6, message=""):
    np.testing.assert_allclose(
        first.detach().numpy(), second.detach().numpy(), rtol=rtol, atol=atol, err_msg=message
    )


def assert_same_gradients(first, second):
    theirs = gradients(second)
    for name, gradient in gradients(first).items():
        close(gradient, theirs[name], atol=1e-7, message=name)


def equal(first, second):
    return bool((first == second).all())


def untouched(model):
    return not any(
        layer._forward_post_hooks or layer._forward_pre_hooks for layer in model.sublayers(include_self=True)
    )
