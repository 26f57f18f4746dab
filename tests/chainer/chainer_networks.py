"""Small networks for the tests of hooks; the same as those of tests/torch."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from chainer import Chain, Link, Parameter
from chainer.dataset import concat_examples
from chainer.datasets import TupleDataset

from mixlayers import ManifoldMixup
from mixlayers.chainer import Classifier

LAYERS = ["layer1", "layer2"]


class Block(Chain):
    """A residual block."""

    def __init__(self, width):
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(width, width, 3, pad=1)
            self.norm = L.BatchNormalization(width, eps=1e-5)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


class Net(Chain):
    """Three stages, each a residual block."""

    def __init__(self, width=6, dropout=0.0):
        super().__init__()
        with self.init_scope():
            self.stem = L.Convolution2D(3, width, 3, pad=1)
            self.layer1, self.layer2, self.layer3 = Block(width), Block(width), Block(width)
            self.head = L.Linear(width, 4)
        self.dropout = dropout

    @property
    def training(self):
        return chainer.config.train

    def trunk(self, x):
        return self.layer3(self.layer2(self.layer1(self.stem(x))))

    def forward(self, x):
        h = F.mean(self.trunk(x), (2, 3))
        return self.head(F.dropout(h, self.dropout) if self.dropout else h)  # it draws numbers even for 0


class Function(Link):
    """A function as a link."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *given):
        return self.f(*given)


class Criterion(Link):
    """A loss that is a link."""

    def forward(self, output, target):
        return F.softmax_cross_entropy(output, target)


class ScaledCriterion(Criterion):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.scale = Parameter(np.ones((), np.float32))

    def forward(self, output, target):
        return super().forward(output * F.broadcast_to(self.scale, output.shape), target)


def data(size=24, seed=0):
    """Pictures of four classes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, 3, 8, 8), dtype=np.float32)
    return TupleDataset(x, rng.integers(4, size=size).astype(np.int32))


def batch():
    """All of them."""
    return concat_examples(data()[:])


def classifier(kind=Classifier, seed=0, **options):
    """Mixes the network's hidden layers, unless told otherwise; equal seeds give equal weights."""
    np.random.seed(seed)  # noqa: NPY002  # Chainer draws weights from the global generator
    return kind(Net(), **({"method": ManifoldMixup(), "layers": LAYERS} | options))
