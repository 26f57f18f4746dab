"""Steps under PyTorch's own machinery; the rest is in tests/shared/test_training.py."""

import numpy as np
import pytest
import torch

from mixlayers import AlignMixup, ManifoldMixup, PatchUp
from mixlayers.torch import cross_entropy, get_mixer, wrap
from tests.support import reference
from tests.torch.networks import batch, net


@pytest.mark.parametrize(
    "method", [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)], ids=repr
)
def test_autocast_features_are_mixed_in_their_own_dtype(method):
    model, (x, y), seen = wrap(net(), method, ["layer1", "layer2"]), batch(), []
    model.layer2.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(*model(x, target=y))
    loss.backward()
    assert set(seen) <= {torch.bfloat16, torch.float32} and torch.isfinite(loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_transport_in_single_precision(dtype):
    """In half precision the squares of distances of hundreds would be off by more than eps, or infinite."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Flatten(), torch.nn.Linear(8 * 9, 4))
    x = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * 5
    seen = []
    wrap(model, AlignMixup(eps=20.0, rounds=20), ["0"])
    model[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    ways = set()
    for _ in range(8):
        with torch.autocast("cpu", dtype=dtype):
            loss = cross_entropy(*model(x, target=torch.arange(4)))
        loss.backward()
        plan = get_mixer(model).last
        how = plan.blend(x.shape)
        cells = x.flatten(2).double().numpy()
        weights = [reference.transport(cells[i], cells[j], 20.0, 20) for i, j in enumerate(plan.perm)]
        wanted = reference.align(cells, plan.perm, np.full(4, plan.lam), weights, how.moves_own)
        np.testing.assert_allclose(seen[-1].flatten(2).numpy(), wanted, rtol=1e-3, atol=1e-3)
        ways.add(how.moves_own)
    assert ways == {True, False}
