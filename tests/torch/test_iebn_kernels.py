"""IEBN's sums over long planes: as exact as float64 makes them, in whatever order a processor adds."""

import pytest
import torch
from rounding import UNIT

from mixlayers_torch._iebn_kernels import can_cut, plane_moments, products, sums

LENGTHS = [112 * 112, 2**16 + 1, 2**19, 1021 * 1021]  # even pieces, a prime, a power, no divisor that fits


@pytest.mark.parametrize("length", LENGTHS)
def test_long_planes_are_added_up_exactly(length: int) -> None:
    """Of the size of what is added; one float32 sum is off by 10 units of 2^-24 at 112 * 112, and 90 at 2^19."""
    generator = torch.Generator().manual_seed(0)
    g, x = torch.randn((2, 2, 3, length), generator=generator, dtype=torch.float64) + 1
    g, x = g.float(), x.float()
    exact, about = x.double(), torch.ones(3)
    terms = g.double() * (exact - 1)
    total, product = products(g, x, about, 2)
    found = {
        "sums": (sums(x, 2), exact.sum(2), exact.abs().sum(2)),
        "of gradients": (total, g.double().sum(2), g.double().abs().sum(2)),
        "of products": (product, terms.sum(2), g.double().abs().sum(2) + terms.abs().sum(2)),
    }
    if can_cut(x):  # else the moments are float64's
        _, mean, squares = plane_moments(x)
        apart = (exact - exact.mean((0, 2)).unsqueeze(1)).square().sum((0, 2))
        found |= {"mean": (mean, exact.mean((0, 2)), 1.0), "squares": (squares, apart, apart)}
    for name, (own, right, size) in found.items():
        assert ((own.double() - right).abs() / size).max() <= 2 * UNIT, name
