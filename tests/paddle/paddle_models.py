"""Paddle's own models, small inputs, with random weights that let every branch be seen in the output."""

import numpy as np
import paddle
from paddle import nn
from paddle.vision import models

BATCH, CLASSES = 4, 10


class Encoder(nn.Layer):
    """A transformer over token indices with positions, read off the mean."""

    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(30, 16), nn.Embedding(12, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 4)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens):
        positions = paddle.arange(tokens.shape[1]).expand_as(tokens)
        return self.head(self.encoder(self.embed(tokens) + self.position(positions)).mean(1))


class Recurrent(nn.Layer):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(6, 12, 2)
        self.mlp = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES))

    def forward(self, x):
        return self.mlp(self.cells(x)[0][:, -1])


def images(size):
    return lambda: paddle.randn([BATCH, 3, size, size])


def vgg11():
    """With a small head: the usual one has a hundred million weights."""
    return nn.Sequential(
        *models.vgg11(num_classes=0, with_pool=False).features, nn.Flatten(), nn.Linear(512, CLASSES)
    )


CASES = {
    "resnet18": (lambda: models.resnet18(num_classes=CLASSES), images(32)),
    "mobilenet_v2": (lambda: models.mobilenet_v2(scale=0.25, num_classes=CLASSES), images(32)),
    "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(scale=0.5, num_classes=CLASSES), images(32)),
    "densenet121": (lambda: models.densenet121(num_classes=CLASSES), images(32)),
    "shufflenet_v2_x0_25": (lambda: models.shufflenet_v2_x0_25(num_classes=CLASSES), images(32)),
    "squeezenet1_0": (lambda: models.squeezenet1_0(num_classes=CLASSES), images(32)),
    "googlenet": (lambda: models.googlenet(num_classes=CLASSES), images(224)),
    "vgg11": (vgg11, images(32)),
    "transformer": (Encoder, lambda: paddle.randint(0, 30, [BATCH, 12])),
    "lstm": (Recurrent, lambda: paddle.randn([BATCH, 5, 6])),
}


def make(name):
    """The model in eval mode, and its input.

    Every norm knows its features, as in a trained model: otherwise what sets the samples apart shrinks from layer to
    layer until it is lost in the rounding of what they share.
    """
    paddle.seed(1)
    build, inputs = CASES[name]
    model, x = build(), inputs()
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    for norm in norms:
        norm.weight.set_value(rng.uniform(0.8, 1.6, norm.weight.shape).astype("float32"))
        norm.bias.set_value(rng.normal(0, 0.1, norm.bias.shape).astype("float32"))
    if norms:
        kept = [norm._momentum for norm in norms]
        for norm in norms:
            norm._momentum = 0.0
        with paddle.no_grad():
            model(x)
        for norm, momentum in zip(norms, kept, strict=True):
            norm._momentum = momentum
    model.eval()
    return model, x


def logits(output):
    """GoogLeNet's three outputs side by side."""
    return paddle.concat(output, 1) if isinstance(output, tuple | list) else output
