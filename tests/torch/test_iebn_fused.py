"""IEBN in the form that torch.compile gets: the reference's values and gradients, and few graphs for many layers."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from mixlayers._core.iebn import Parameters
from mixlayers.torch import IEBN2d
from mixlayers_torch._iebn.given import Statistics
from mixlayers_torch._iebn.inductor import fused
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics

SHAPES = [(6, 5, 7), (4, 3, 5, 6), (32, 24, 16, 16), (3, 4, 2, 3, 5)]


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def vectors(channels: int, count: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(channels)
    return [torch.randn(channels, generator=generator).to(dtype).requires_grad_() for _ in range(count)]


def features(shape: tuple[int, ...], offset: float = 0.7, scale: float = 1.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, g = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return x * scale + offset, g


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def close(one: Tensor, other: np.ndarray, tolerance: float) -> None:
    assert np.abs(array(one) - other).max() <= tolerance * max(1e-3, np.abs(other).max())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_reference(
    dtype: torch.dtype, tolerance: float, shape: tuple[int, ...], training: bool
) -> None:
    x, g = (tensor.to(dtype) for tensor in features(shape))
    parameters = vectors(shape[1], 4, dtype)
    mean, var = torch.zeros(shape[1], dtype=dtype), torch.full((shape[1],), 0.8, dtype=dtype)
    kept = {} if training else {"mean": array(mean), "var": array(var)}
    expected = iebn(array(x), *map(array, parameters), eps=1e-5, **kept)
    slopes = iebn_backward(array(g), array(x), *map(array, parameters), eps=1e-5, **kept)
    after = running_statistics(array(x), array(mean), array(var), 0.1)
    x.requires_grad_()
    y = fused(x, Parameters(*parameters), Statistics(mean, var, training, 0.1, 1e-5))
    y.backward(g)
    close(y, expected, tolerance)
    names = ("weight", "bias", "weight_readjust", "bias_readjust")
    for tensor, name in zip((x, *parameters), ("x", *names), strict=True):
        close(tensor.grad, getattr(slopes, name), tolerance)
    if training:
        close(mean, after[0], min(tolerance, 1e-6))
        close(var, after[1], min(tolerance, 1e-6))


@pytest.mark.parametrize(("offset", "scale"), [(1000.0, 0.1), (-100.0, 2.0), (0.0, 1e-4), (3.0, 0.0)])
def test_neither_an_offset_nor_a_constant_channel_costs_digits(offset: float, scale: float) -> None:
    x = features((16, 4, 12, 12), offset, scale)[0].float()
    parameters = vectors(4, 4, torch.float32)
    y = fused(x, Parameters(*parameters), Statistics(None, None, True, 0.1, 1e-5))
    close(y, iebn(array(x), *map(array, parameters), eps=1e-5), 1e-5)


@pytest.mark.parametrize("missing", ["weight", "bias"])
def test_goes_without_weight_or_bias(missing: str) -> None:
    x = features((4, 3, 5, 6))[0]
    weight, bias, *attention = vectors(3, 4, torch.float64)
    statistics = Statistics(None, None, True, 0.1, 1e-5)
    ones, zeros = torch.ones_like(weight), torch.zeros_like(bias)
    if missing == "weight":
        y, full = (fused(x, Parameters(w, bias, *attention), statistics) for w in (None, ones))
    else:
        y, full = (fused(x, Parameters(weight, b, *attention), statistics) for b in (None, zeros))
    torch.testing.assert_close(y, full)


def test_layers_of_one_width_share_a_graph() -> None:
    """So that those of a ResNet, compiled one by one, stay below torch.compile's limit of 8 graphs."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, examples: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    for channels, side in [(width, side) for side in (8, 6, 5) for width in (4, 8, 12, 16, 24, 32)]:
        norm, alike = IEBN2d(channels), IEBN2d(channels)
        norm.compile(backend=backend, dynamic=True)
        x = features((3, channels, side, side))[0].float()
        torch.testing.assert_close(norm(x), alike(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(norm.running_var, alike.running_var, rtol=1e-6, atol=1e-6)
    assert len(graphs) == 6
