"""What compiled graphs leave outside (DropBlock, styles) under torch.compile, and in another memory format."""

import pytest
import torch
import torch._dynamo
from torch import nn

from mixlayers import DSU, DropBlock, GMix, HMix, ManifoldMixup, MixStyle, MoEx, OneOf, ResizeMix
from mixlayers.torch import cross_entropy, mix, wrap


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def network() -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


@pytest.mark.parametrize(
    "method",
    [
        DropBlock(0.4, 3),
        OneOf({DropBlock(0.4, 3): 1, ManifoldMixup(): 1}),
        DropBlock(0.4, 3, every_place=True),
        MixStyle(prob=0.5),
        DSU(prob=0.5),
        MoEx(),
        OneOf({MoEx(): 1, ManifoldMixup(): 1, MixStyle(): 1}),
    ],
    ids=repr,
)
def test_compiled_equals_eager(method):
    """Dropping happens outside of the graph, which breaks there."""
    losses = []
    for way in (lambda model: model, lambda model: torch.compile(model, backend="eager")):
        run = way(wrap(network(), method, ["1", "3"]))
        model = getattr(run, "_orig_mod", run)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        losses.append([])
        for step in range(8):
            x = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(step))
            loss = cross_entropy(*run(x, target=torch.arange(6) % 5))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_compiled_forward_without_labels_drops():
    model = wrap(network(), DropBlock(0.5, 3), ["1"])
    x = torch.randn(6, 3, 12, 12)
    first, second = (torch.compile(model, backend="eager")(x) for _ in range(2))
    assert not torch.allclose(first, second)


def test_a_graph_that_must_be_whole_is_refused():
    model = wrap(torch.compile(network(), backend="eager", fullgraph=True), DropBlock(0.5, 3), ["1"])
    with pytest.raises(torch._dynamo.exc.Unsupported, match="eagerly"):
        model(torch.randn(6, 3, 12, 12))


@pytest.mark.parametrize(
    "method", [DropBlock(0.3, 3), HMix(), ResizeMix(), MixStyle(prob=1.0), MoEx()], ids=repr
)
def test_the_memory_format_stays(method):
    x = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    dropped, _ = mix(x, torch.arange(4), method, step=0)
    assert dropped.is_contiguous(memory_format=torch.channels_last)
    again, _ = mix(x.contiguous(), torch.arange(4), method, step=0)
    torch.testing.assert_close(dropped, again)


TWICE = [
    DropBlock(0.3, 2),
    GMix(),
    ResizeMix((0.5, 0.8)),
    MixStyle(prob=1.0),
    MoEx(over="space"),
    DSU(prob=1.0),
]


@pytest.mark.parametrize("method", TWICE, ids=repr)
def test_it_is_differentiable_twice(method):
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    mixed = lambda x: mix(x, torch.arange(3), method, step=0)[0] ** 2  # noqa: E731
    assert torch.autograd.gradgradcheck(mixed, (x,))
