"""What an audit sees of Paddle's own layers, and leaves as it was."""

import numpy as np
import paddle
import pytest
from paddle import nn

from mixlayers.paddle import audit, wrap


class Busy(nn.Layer):
    """Draws in several ways, counts, fills a queue, moves a slow copy of its weights, in each forward."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.drop = nn.Linear(6, 8), nn.BatchNorm1D(8), nn.Dropout(0.5)
        self.slow, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        for p in self.slow.parameters():
            p.stop_gradient = True
        self.scale = self.create_parameter([8], default_initializer=nn.initializer.Constant(0.0))
        self.register_buffer("queue", paddle.zeros([4, 8]))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        with paddle.no_grad():
            self.slow.weight.set_value(self.slow.weight * 0.9)
            self.stem.weight.set_value(self.stem.weight * 0.5)
            self.head.bias.add_(paddle.ones([3]))
            self.queue.set_value(self.queue + 1.0)
        h = self.drop(self.norm(self.stem(x)))
        h = h + paddle.randn([8]) * self.scale * paddle.rand([8]) + paddle.uniform([1], min=-1.0, max=1.0)
        return self.head(h * paddle.bernoulli(paddle.full([8], 0.9)))


@pytest.mark.parametrize("training", [False, True])
def test_to_the_bit(training):
    model = Busy()
    model.train() if training else model.eval()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: (x.data_ptr(), x.inplace_version, x.numpy().copy()) for name, x in tensors.items()}
    paddle.seed(3)
    report = audit(
        model, paddle.to_tensor(np.random.default_rng(0).standard_normal((5, 6)).astype("float32"))
    )
    drawn = paddle.rand([4]).numpy()
    assert report["stem"].true and report["norm"].true and report["drop"].true
    assert model.calls == 0 and model.training is training
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, (where, version, value) in before.items():
        assert after[name] is tensors[name], name
        assert (after[name].data_ptr(), after[name].inplace_version) == (where, version), name
        assert np.array_equal(after[name].numpy(), value), name
    paddle.seed(3)
    assert np.array_equal(drawn, paddle.rand([4]).numpy())


def test_a_frozen_embedding_hides_nothing():
    class Branch(nn.Layer):
        def __init__(self):
            super().__init__()
            self.embed, self.branch, self.head = nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.embed.weight.stop_gradient = True

        def forward(self, ids):
            x = self.embed(ids).mean(1)
            return self.head(x + self.branch(x))

    ids = paddle.to_tensor(np.random.default_rng(0).integers(50, size=(6, 5)))
    report = audit(Branch(), ids)
    assert report["embed"].true and not report["branch"].true
    model = wrap(Branch(), layers="branch")
    with pytest.raises(ValueError, match=r"'branch' is not a true mixing point"):
        model(ids, target=paddle.arange(6) % 3)
