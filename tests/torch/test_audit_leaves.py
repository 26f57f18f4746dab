"""What an audit leaves as it was: versions, memory, generators, what a forward writes, graphs of torch.compile."""

import random
import warnings
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.ao.nn.intrinsic.qat import LinearReLU
from torch.ao.quantization import get_default_qat_qconfig

from mixlayers import ManifoldMixup
from mixlayers.torch import audit, cross_entropy, wrap
from tests.torch.networks import batch, net


class Busy(nn.Module):
    """Draws, counts, keeps, moves a slow copy of its weights and fills a queue, in each forward."""

    def __init__(self, fails=False):
        super().__init__()
        self.stem, self.norm, self.drop = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.slow, self.head = nn.Linear(6, 8).requires_grad_(False), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.zeros(8))
        self.register_buffer("queue", torch.zeros(4, 8))
        self.plain = torch.zeros(3)
        self.own, self.fails, self.calls, self.seen = (
            torch.Generator().manual_seed(3),
            fails,
            0,
            deque(maxlen=2),
        )

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.plain += 1.0
        with torch.no_grad():
            self.slow.weight.mul_(0.9)
            self.slow.bias.data = self.slow.bias * 0.5
            self.queue[:2] += self.stem(x)[:2]
            self.queue = self.queue * 2.0
        h = self.drop(self.norm(self.stem(x)))
        h = h + self.scale * torch.rand(8, generator=self.own) * random.random() * np.random.rand()  # noqa: NPY002
        if self.fails:
            raise RuntimeError("in the middle")
        return self.head(h + torch.randn_like(h) * 0.1)


def everything(model):
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers()), "plain": model.plain}
    memory = {name: (id(x), x.data_ptr(), x._version, x.detach().clone()) for name, x in tensors.items()}
    rest = (
        model.calls,
        list(model.seen),
        [m.training for m in model.modules()],
        model.own.get_state().tolist(),
    )
    states = torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    return memory, rest, states


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_to_the_bit(fails, training):
    model = Busy(fails).train(training)
    memory, *others = everything(model)
    if fails:
        with pytest.raises(ValueError, match=r"mixlayers ran the model by itself.*in the middle"):
            audit(model, torch.randn(5, 6, generator=torch.Generator().manual_seed(1)))
    else:
        report = audit(model, torch.randn(5, 6, generator=torch.Generator().manual_seed(1)))
        assert report["norm"].true and not report["stem"].true
    after, *now = everything(model)
    assert now == others
    for name, (identity, where, version, value) in memory.items():
        assert after[name][:3] == (identity, where, version), name
        assert torch.equal(after[name][3], value), name
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_backward_that_is_still_to_come_stays_valid():
    model, (x, y) = net(), batch()
    loss = nn.functional.cross_entropy(model(x), y)
    audit(model, x)
    loss.backward()


def test_observers_see_nothing():
    layer = LinearReLU(6, 4, qconfig=get_default_qat_qconfig("x86"))
    model = nn.Sequential(nn.Linear(6, 6), layer, nn.Linear(4, 3)).train()
    model(torch.randn(5, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    audit(model, torch.randn(5, 6) * 100)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_norms_stay_frozen():
    """A module in eval mode inside a model in training mode is audited so."""
    model, (x, _) = net(), batch()
    seen = []
    model.layer1.norm.eval()
    model.layer1.norm.register_forward_hook(lambda m, *_: seen.append(m.training))
    model.layer2.norm.register_forward_hook(lambda m, *_: seen.append(m.training))
    audit(model, x)
    assert set(seen[::2]) == {False} and set(seen[1::2]) == {True}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_steps_are_equal_to_the_bit_with_and_without(dropout):
    states = []
    for trust in (False, True):
        model, (x, y) = (
            wrap(net(dropout=dropout), ManifoldMixup(), ["layer1", "layer2"], trust=trust),
            batch(),
        )
        optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        torch.manual_seed(7)
        for _ in range(4):
            optimiser.zero_grad()
            cross_entropy(*model(x, target=y)).backward()
            optimiser.step()
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("part", [False, True], ids=["whole", "part"])
def test_nothing_is_compiled_for_it(part):
    """The same graphs with places proved at forwards 2 and 4, and with places that nobody asks about."""
    counts = []
    for trust in (False, True):
        torch._dynamo.reset()
        counter, model, (x, y) = CompileCounter(), net(), batch()
        if part:
            model.layer3.compile(backend=counter)
        model = wrap(model, ManifoldMixup(), ["layer1", "layer2"], trust=trust)
        run = model if part else torch.compile(model, backend=counter)
        for _ in range(5):
            output, target = run(x, target=y)
            cross_entropy(output, target).backward()
        counts.append(counter.frame_count)
    torch._dynamo.reset()
    assert counts[0] == counts[1] > 0


class FrozenTable(nn.Module):
    """LoRA's pattern."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8).requires_grad_(False)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        x = self.embed(ids).mean(1)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x + self.blocks[0](x))


def test_a_frozen_embedding_hides_nothing():
    ids, y = torch.randint(50, (6, 5)), torch.arange(6) % 3
    sequence = nn.Sequential(
        nn.Embedding(50, 8).requires_grad_(False), *(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3)),
        nn.Flatten(), nn.Linear(40, 3),
    )  # fmt: skip
    assert audit(sequence, ids).chosen == ("1", "2")
    model = wrap(FrozenTable(), layers="blocks.1")
    with pytest.raises(ValueError, match=r"'blocks.1' is not a true mixing point"):
        model(ids, target=y)


def test_an_error_in_the_audit_alone_is_told_after_the_step():
    class Fixed(nn.Sequential):
        def forward(self, x):
            return super().forward(x.reshape(6, 8))

    model = wrap(Fixed(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), layers="1")
    x, y = torch.randn(6, 8), torch.arange(6) % 3
    with pytest.warns(
        UserWarning, match=r"'1' could not be checked. mixlayers ran .* on 4 samples .*float32 \(4, 8\)"
    ):
        model(x, target=y)[1].partner  # noqa: B018
    with warnings.catch_warnings(action="error"):
        model(x, target=y)[1].partner  # noqa: B018
    with pytest.raises(ValueError, match=r"layers='auto': mixlayers ran the model by itself"):
        wrap(Fixed(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)))(x, target=y)
