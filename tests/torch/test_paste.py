"""Boxes are pasted one by one in large batches, all at once in small ones: the reference's values and gradients."""

import numpy as np
import pytest
import torch

from mixlayers import CutMix
from mixlayers.torch import mix
from mixlayers_torch import _blend
from tests.support import reference


@pytest.mark.parametrize(
    "method", [CutMix(), CutMix(lam_per="sample"), CutMix(alpha=0.1, lam_per="sample")], ids=repr
)
@pytest.mark.parametrize("channel_dim", [1, -1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("wants_gradient", [False, True])
@pytest.mark.parametrize("many", [2**10, 2**30], ids=["large", "small"])
def test_equals_the_reference(monkeypatch, many, method, channel_dim, layout, wants_gradient):
    monkeypatch.setattr(_blend, "_MANY", many)  # small batches gather the partners first
    shape = (5, 3, 80, 72) if channel_dim == 1 else (5, 80, 72, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    before = x.clone()
    x.requires_grad_(wants_gradient)
    for step in range(6):
        mixed, target = mix(x, torch.arange(5), method, step=step, channel_dim=channel_dim)
        plan = target.plan
        how = plan.blend(shape, channel_dim)
        expected = reference.mix(before.numpy(), plan.perm, plan.lam, how.mask)
        np.testing.assert_array_equal(mixed.detach().numpy(), expected)
        assert wants_gradient or mixed.is_contiguous(memory_format=layout)
        if wants_gradient:
            upstream = np.random.default_rng(step).normal(size=shape).astype(np.float32)
            (gradient,) = torch.autograd.grad(mixed, x, torch.tensor(upstream))
            expected = reference.mix_backward(upstream, plan.perm, plan.lam, how.mask)
            np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-6)
    assert torch.equal(x.detach(), before)
